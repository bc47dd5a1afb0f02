//! Which kernel the tests run on, for what is different on purpose.

use anyhow::Context as _;

/// The first two numbers of the kernel's version.
pub fn release() -> anyhow::Result<(u32, u32)> {
    let text = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    parse(&text).with_context(|| format!("the version of the kernel is {text:?}"))
}

fn parse(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map_while(|number| number.parse().ok());
    Some((numbers.next()?, numbers.next()?))
}

/// By what programs are attached at TC: `tcx`, which there is from Linux 6.6 on, or `clsact`.
pub fn tc_means() -> anyhow::Result<&'static str> {
    Ok(if release()? >= (6, 6) { "tcx" } else { "clsact" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_the_beginning_of_the_release() {
        assert_eq!(parse("6.12.117+deb13-cloud-amd64\n"), Some((6, 12)));
        assert_eq!(parse("unknown"), None);
    }
}

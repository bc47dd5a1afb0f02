//! Entries of lists, and how many there may be.

/// Prefixes per family, over all scopes.
pub const LISTED: u32 = 262_144;
/// Entries of `acl4` and `acl6`: while a list changes, its new prefixes stand beside the old ones.
pub const ACLS: u32 = 2 * LISTED;

/// Value of `acl4` and `acl6`: the effect of every prefix of the scope that covers the key.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AclVal {
    /// Bits, the constants below; flattened, because the trie answers with the longest prefix alone.
    pub flags: u16,
    /// With DENY: the length of the longest prefix that denies, without the bits of the scope. It may be shorter than the key.
    pub deny_len: u16,
}
const _: () = assert!(size_of::<AclVal>() == 2 + 2);

impl AclVal {
    /// Packets are dropped.
    pub const DENY: u32 = 1;
    /// On every allow list of the scope.
    pub const ALLOW: u32 = 1 << 1;
    /// No limits and no bans.
    pub const EXEMPT: u32 = 1 << 2;
    /// In no list: what the program found in `bans` stands beside what it found in the lists.
    pub const BANNED: u32 = 1 << 3;

    /// Where [`AclVal::word`] holds the length.
    const DENY_LEN_SHIFT: u32 = 16;

    /// Both in one word: flags below, the length above.
    #[inline(always)]
    pub const fn word(self) -> u32 {
        self.flags as u32 | (self.deny_len as u32) << Self::DENY_LEN_SHIFT
    }

    /// The length in such a word.
    #[inline(always)]
    pub const fn deny_len_of(word: u32) -> u32 {
        word >> Self::DENY_LEN_SHIFT
    }
}

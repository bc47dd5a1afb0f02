//! Programs at TC on kernels before 6.6, which have no TCX: filters of the qdisc clsact, by rtnetlink.
//!
//! Such a filter lives without a pin. Ours have a priority and a number of their own, behind those that others take by
//! default, and are known by their names. A filter is replaced in one step.

use std::os::fd::{AsRawFd, BorrowedFd};

use futures_util::{StreamExt, TryStreamExt};
use rtnetlink::Handle;
use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::tc::{
    TcAttribute, TcBpfFlags, TcFilterBpf, TcFilterBpfOption, TcHandle, TcMessage, TcOption,
};

use super::netlink::{NetlinkError, converse};

/// Behind what `tc` and others choose by themselves.
const PRIORITY: u32 = 50_000;
/// Number of the filter among those of one priority.
const NUMBER: u32 = 0x7447;
/// `ETH_P_ALL`, in network byte order.
const EVERY_PROTOCOL: u32 = (3_u16.to_be()) as u32;
/// What the names of our filters begin with.
const NAME: &str = "portcullis_";
const KIND: &str = "clsact";
const QDISC: TcHandle = TcHandle { major: 0xffff, minor: 0 };

/// Where packets are met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    /// Those that arrive.
    In,
    /// Those that leave.
    Out,
}

impl Direction {
    /// Both.
    pub(super) const ALL: [Self; 2] = [Self::In, Self::Out];

    /// In pins and messages.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::In => "in",
            Self::Out => "out",
        }
    }

    fn parent(self) -> TcHandle {
        let minor = match self {
            Self::In => TcHandle::MIN_INGRESS,
            Self::Out => TcHandle::MIN_EGRESS,
        };
        TcHandle { major: 0xffff, minor }
    }
}

/// A filter with a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Filter {
    /// Number of the program, where the kernel tells it.
    pub(super) program: u32,
    name: String,
    number: u32,
    priority: u32,
}

impl Filter {
    fn is_ours(&self) -> bool {
        self.name.starts_with(NAME)
    }

    fn is_at_our_place(&self) -> bool {
        (self.number, self.priority) == (NUMBER, PRIORITY)
    }
}

/// Puts a program in place, or in the place of ours; whether the qdisc had to be made. A filter of somebody else that
/// has our priority and number is not replaced.
pub(super) async fn attach(
    index: u32,
    direction: Direction,
    program: BorrowedFd<'_>,
) -> Result<bool, NetlinkError> {
    converse(async |mut handle| {
        let is_made = make_qdisc(&mut handle, index).await?;
        let present = filters(&handle, index, direction).await?;
        if let Some(foreign) = present.iter().find(|filter| filter.is_at_our_place() && !filter.is_ours()) {
            return Err(NetlinkError::Taken {
                what: format!("filter {:#x} of priority {PRIORITY} (`{}`)", NUMBER, foreign.name),
            });
        }
        let mut message = message(index, direction.parent());
        message.header.handle = NUMBER.into();
        message.header.info = PRIORITY << 16 | EVERY_PROTOCOL;
        message.attributes.push(TcAttribute::Kind(TcFilterBpf::KIND.to_owned()));
        message.attributes.push(TcAttribute::Options(vec![
            TcOption::Bpf(TcFilterBpfOption::ProgFd(program.as_raw_fd().cast_unsigned())),
            TcOption::Bpf(TcFilterBpfOption::ProgName(format!("{NAME}{}", direction.name()))),
            TcOption::Bpf(TcFilterBpfOption::Flags(TcBpfFlags::DirectAction)),
        ]));
        let request = RouteNetlinkMessage::NewTrafficFilter(message);
        let flags = NLM_F_CREATE;
        ask(
            &mut handle,
            request,
            flags,
            format!("attach the filter {} of interface {index}", direction.name()),
        )
        .await?;
        Ok(is_made)
    })
    .await
}

/// Removes our filter, if it is there; whether it was.
pub(super) async fn detach(index: u32, direction: Direction) -> Result<bool, NetlinkError> {
    converse(async |mut handle| {
        let present = filters(&handle, index, direction).await?;
        let mut removed = false;
        for filter in present.into_iter().filter(Filter::is_ours) {
            let mut message = message(index, direction.parent());
            message.header.handle = filter.number.into();
            message.header.info = filter.priority << 16 | EVERY_PROTOCOL;
            message.attributes.push(TcAttribute::Kind(TcFilterBpf::KIND.to_owned()));
            let request = RouteNetlinkMessage::DelTrafficFilter(message);
            ask(
                &mut handle,
                request,
                0,
                format!("remove the filter {} of interface {index}", direction.name()),
            )
            .await?;
            removed = true;
        }
        Ok(removed)
    })
    .await
}

/// Our filter, if it is there.
pub(super) async fn ours(index: u32, direction: Direction) -> Result<Option<Filter>, NetlinkError> {
    converse(async |handle| {
        let present = filters(&handle, index, direction).await?;
        Ok(present.into_iter().find(Filter::is_ours))
    })
    .await
}

/// Removes the qdisc unless somebody has filters in it; whether it did.
pub(super) async fn remove_empty_qdisc(index: u32) -> Result<bool, NetlinkError> {
    converse(async |mut handle| {
        for direction in Direction::ALL {
            if !is_empty(&handle, index, direction).await? {
                return Ok(false);
            }
        }
        let mut message = message(index, TcHandle::INGRESS);
        message.header.handle = QDISC;
        let request = RouteNetlinkMessage::DelQueueDiscipline(message);
        ask(&mut handle, request, 0, format!("remove the qdisc {KIND} of interface {index}")).await?;
        Ok(true)
    })
    .await
}

async fn make_qdisc(handle: &mut Handle, index: u32) -> Result<bool, NetlinkError> {
    let mut message = message(index, TcHandle::INGRESS);
    message.header.handle = QDISC;
    message.attributes.push(TcAttribute::Kind(KIND.to_owned()));
    let request = RouteNetlinkMessage::NewQueueDiscipline(message);
    match ask(
        handle,
        request,
        NLM_F_CREATE | NLM_F_EXCL,
        format!("make the qdisc {KIND} of interface {index}"),
    )
    .await
    {
        Ok(()) => Ok(true),
        Err(error) if error.code() == Some(libc::EEXIST) => Ok(false),
        Err(error) => Err(error),
    }
}

async fn filters(handle: &Handle, index: u32, direction: Direction) -> Result<Vec<Filter>, NetlinkError> {
    let found = dump(handle, index, direction).await?;
    Ok(found.iter().filter_map(filter).collect())
}

async fn is_empty(handle: &Handle, index: u32, direction: Direction) -> Result<bool, NetlinkError> {
    Ok(dump(handle, index, direction).await?.is_empty())
}

async fn dump(handle: &Handle, index: u32, direction: Direction) -> Result<Vec<TcMessage>, NetlinkError> {
    let question = handle.traffic_filter(index.cast_signed()).get();
    let question = match direction {
        Direction::In => question.ingress(),
        Direction::Out => question.egress(),
    };
    let refused = NetlinkError::refused(format!("list the filters of interface {index}"));
    question.execute().try_collect().await.map_err(refused)
}

fn filter(message: &TcMessage) -> Option<Filter> {
    let number = u32::from(message.header.handle);
    let mut filter = Filter { program: 0, name: String::new(), number, priority: message.header.info >> 16 };
    let mut has_options = false;
    for attribute in &message.attributes {
        let TcAttribute::Options(options) = attribute else { continue };
        for option in options {
            match option {
                TcOption::Bpf(TcFilterBpfOption::ProgName(name)) => filter.name.clone_from(name),
                TcOption::Bpf(TcFilterBpfOption::ProgId(id)) => filter.program = *id,
                _ => continue,
            }
            has_options = true;
        }
    }
    (has_options && number != 0).then_some(filter)
}

fn message(index: u32, parent: TcHandle) -> TcMessage {
    let mut message = TcMessage::with_index(index.cast_signed());
    message.header.parent = parent;
    message
}

async fn ask(
    handle: &mut Handle,
    request: RouteNetlinkMessage,
    flags: u16,
    what: String,
) -> Result<(), NetlinkError> {
    let mut request = NetlinkMessage::from(request);
    request.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
    let refused = |source| NetlinkError::Refused { what: what.clone(), source };
    let mut answers = handle.request(request).map_err(refused)?;
    while let Some(answer) = answers.next().await {
        if let NetlinkPayload::Error(error) = answer.payload
            && error.code.is_some()
        {
            return Err(refused(rtnetlink::Error::NetlinkError(error)));
        }
    }
    Ok(())
}

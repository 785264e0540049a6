//! A received header by its opcode: one view per kind, to match on.

use super::{
    AsyncMessage, DataIn, DataOut, LoginRequest, LoginResponse, LogoutRequest, LogoutResponse, NopIn, NopOut,
    ReadyToTransfer, Reject, ScsiCommand, ScsiResponse, SnackRequest, TaskManagementRequest,
    TaskManagementResponse, TextRequest, TextResponse,
};
use crate::{Bhs, Opcode};

macro_rules! any {
    ($(#[$doc:meta])* $Any:ident: $($Kind:ident)*) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub enum $Any<'a> {
            $(
                #[doc = concat!("[`", stringify!($Kind), "`].")]
                $Kind(&'a $Kind),
            )*
        }

        impl<'a> $Any<'a> {
            #[inline]
            pub(crate) fn of(bhs: &'a Bhs) -> Option<Self> {
                match bhs.opcode() {
                    $(Ok(Opcode::$Kind) => Some(Self::$Kind(bhs.view())),)*
                    _ => None,
                }
            }
        }
    };
}

any! {
    /// A PDU that an initiator sends (RFC 7143 11.2.1.2).
    Request: NopOut ScsiCommand TaskManagementRequest LoginRequest TextRequest DataOut LogoutRequest SnackRequest
}

any! {
    /// A PDU that a target sends (RFC 7143 11.2.1.2).
    Response: NopIn ScsiResponse TaskManagementResponse LoginResponse TextResponse DataIn LogoutResponse
        ReadyToTransfer AsyncMessage Reject
}

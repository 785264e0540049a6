//! What must hold for any bytes. The fuzz targets run these, and so do the property tests of the normal suite.

use stampede_wire::{
    BHS_LEN, Bhs, ahs,
    frame::{AHS_MAX, Frame, FrameError, Framer, FramerConfig},
    pdu::{Request, Response},
    text::{Builder, Pairs, value},
};

/// A PDU as a framer gave it, without where its data was cut.
#[derive(PartialEq, Eq, Debug, Default)]
struct Seen {
    header: Vec<u8>,
    data: Vec<u8>,
    end: Option<bool>,
}

/// However a stream is split, the framer gives the same PDUs and the same error.
pub(crate) fn framer(bytes: &[u8]) {
    let Some(([digests, limit, cut], stream)) = bytes.split_first_chunk() else { return };
    let config = FramerConfig {
        max_data_segment: u32::from(*limit) * 16,
        max_ahs: if digests & 4 == 0 { AHS_MAX as u16 } else { 16 },
        header_digest: digests & 1 != 0,
        data_digest: digests & 2 != 0,
    };
    let whole = run(config, std::iter::once(stream));
    assert_eq!(whole, run(config, stream.chunks(1)));
    assert_eq!(whole, run(config, stream.chunks(usize::from(*cut) + 1)));
    let (first, second) = stream.split_at(usize::from(*cut).min(stream.len()));
    assert_eq!(whole, run(config, [first, second].into_iter()));
}

fn run<'a>(config: FramerConfig, chunks: impl Iterator<Item = &'a [u8]>) -> (Vec<Seen>, Option<FrameError>) {
    let mut framer = Framer::new(config);
    let mut seen: Vec<Seen> = Vec::new();
    for mut chunk in chunks {
        loop {
            let frame = match framer.next(&mut chunk) {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(framer.next(&mut chunk), Err(error), "a lost stream stays lost");
                    return (seen, Some(error));
                }
            };
            if frame == Frame::Header {
                let header = framer.header();
                let _ = ahs::segments(header.ahs()).count();
                seen.push(Seen { header: [&header.bhs().0, header.ahs()].concat(), ..Seen::default() });
            }
            let pdu = seen.last_mut().expect("a header comes first");
            match frame {
                Frame::Header => {}
                Frame::Data(data) => {
                    assert!(!data.is_empty());
                    pdu.data.extend_from_slice(data);
                }
                Frame::End { data_digest_ok } => pdu.end = Some(data_digest_ok),
            }
            assert_eq!(framer.in_pdu(), pdu.end.is_none());
        }
        assert!(chunk.is_empty(), "a framer that wants more has used all there was");
    }
    (seen, None)
}

/// Text is refused or read whole, and what was read can be written again; value parsers never panic.
pub(crate) fn text(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = (value::number(text), value::range(text), value::boolean(text));
        let _ = value::list(text).map(Iterator::count);
        if let Ok(binary) = value::binary(text, 100) {
            assert!((1..=100).contains(&binary.len()));
            assert_eq!(value::binary(&value::to_hex(&binary), 100).as_ref(), Ok(&binary));
            assert_eq!(value::binary(&value::to_base64(&binary), 100).as_ref(), Ok(&binary));
        }
    }
    let Ok(pairs) = Pairs::parse(bytes) else { return };
    let mut again = Builder::new();
    for (key, value) in pairs.clone() {
        again.push(key, value);
    }
    assert!(Pairs::parse(again.as_bytes()).is_ok_and(|second| second.eq(pairs)));
}

/// Every accessor of every kind of PDU takes any 48 bytes, and the typed view is the same bytes.
pub(crate) fn pdu(bytes: &[u8]) {
    let Some(first) = bytes.first_chunk::<BHS_LEN>() else { return };
    let bhs = Bhs(*first);
    let _ = format!("{bhs:?}");
    assert!(bhs.ahs_len() <= AHS_MAX && bhs.data_segment_len() < 1 << 24);
    match (bhs.request(), bhs.response()) {
        (Some(request), None) => self::request(&bhs, request),
        (None, Some(response)) => self::response(&bhs, response),
        (None, None) => assert!(bhs.opcode().is_err()),
        (Some(_), Some(_)) => unreachable!("a PDU goes one way"),
    }
}

fn request(bhs: &Bhs, request: Request<'_>) {
    match request {
        Request::NopOut(pdu) => {
            assert_eq!((pdu.as_ref(), pdu.lun()), (bhs.as_ref(), bhs.lun()));
            let _ = (pdu.sns(), pdu.target_transfer_tag(), pdu.wants_reply(), pdu.immediate());
        }
        Request::ScsiCommand(pdu) => {
            assert_eq!((pdu.as_ref(), pdu.lun()), (bhs.as_ref(), bhs.lun()));
            assert_eq!(pdu.initiator_task_tag(), bhs.initiator_task_tag());
            let _ = (pdu.sns(), pdu.flags(), pdu.attribute(), pdu.priority(), pdu.cdb());
            let _ = pdu.expected_data_transfer_length();
        }
        Request::TaskManagementRequest(pdu) => {
            assert_eq!(pdu.as_ref(), bhs.as_ref());
            let _ =
                (pdu.function(), pdu.lun(), pdu.referenced_task_tag(), pdu.ref_cmd_sn(), pdu.exp_data_sn());
        }
        Request::LoginRequest(pdu) => {
            assert_eq!(pdu.as_ref(), bhs.as_ref());
            let _ = (pdu.transit(), pdu.continues(), pdu.current_stage(), pdu.next_stage());
            let _ =
                (pdu.version_max(), pdu.version_min(), pdu.isid().kind(), pdu.tsih(), pdu.cid(), pdu.sns());
        }
        Request::TextRequest(pdu) => {
            assert_eq!(pdu.as_ref(), bhs.as_ref());
            let _ = (pdu.is_final(), pdu.continues(), pdu.lun(), pdu.target_transfer_tag(), pdu.sns());
        }
        Request::DataOut(pdu) => {
            assert_eq!((pdu.as_ref(), pdu.is_final()), (bhs.as_ref(), bhs.is_final()));
            let _ = (pdu.is_unsolicited(), pdu.lun(), pdu.data_sn(), pdu.buffer_offset(), pdu.exp_stat_sn());
        }
        Request::LogoutRequest(pdu) => {
            assert_eq!(pdu.as_ref(), bhs.as_ref());
            let _ = (pdu.reason(), pdu.cid(), pdu.sns());
        }
        Request::SnackRequest(pdu) => {
            assert_eq!(pdu.as_ref(), bhs.as_ref());
            let _ = (pdu.kind(), pdu.lun(), pdu.tag(), pdu.beg_run(), pdu.run_length(), pdu.exp_stat_sn());
        }
    }
}

fn response(bhs: &Bhs, response: Response<'_>) {
    match response {
        Response::NopIn(pdu) => {
            assert_eq!((pdu.as_ref(), pdu.lun()), (bhs.as_ref(), bhs.lun()));
            let _ = (pdu.sns(), pdu.target_transfer_tag(), pdu.wants_reply());
        }
        Response::ScsiResponse(pdu) => {
            assert_eq!(pdu.as_ref(), bhs.as_ref());
            let _ = (pdu.flags(), pdu.response(), pdu.status(), pdu.residual(), pdu.exp_data_sn(), pdu.sns());
            let _ = (pdu.status_qualifier(), pdu.bidi_read_residual_count());
        }
        Response::TaskManagementResponse(pdu) => {
            assert_eq!(pdu.as_ref(), bhs.as_ref());
            let _ = (pdu.response(), pdu.additional_response_information(), pdu.sns());
        }
        Response::LoginResponse(pdu) => {
            assert_eq!(pdu.as_ref(), bhs.as_ref());
            let _ = (pdu.status(), pdu.current_stage(), pdu.next_stage(), pdu.tsih(), pdu.version_active());
        }
        Response::TextResponse(pdu) => {
            assert_eq!(pdu.as_ref(), bhs.as_ref());
            let _ = (pdu.is_final(), pdu.continues(), pdu.target_transfer_tag(), pdu.sns());
        }
        Response::DataIn(pdu) => {
            assert_eq!(pdu.as_ref(), bhs.as_ref());
            let _ =
                (pdu.flags(), pdu.status(), pdu.residual(), pdu.data_sn(), pdu.buffer_offset(), pdu.sns());
        }
        Response::LogoutResponse(pdu) => {
            assert_eq!(pdu.as_ref(), bhs.as_ref());
            let _ = (pdu.response(), pdu.time2wait(), pdu.time2retain(), pdu.sns());
        }
        Response::ReadyToTransfer(pdu) => {
            assert_eq!((pdu.as_ref(), pdu.lun()), (bhs.as_ref(), bhs.lun()));
            let _ = (pdu.r2t_sn(), pdu.buffer_offset(), pdu.desired_data_transfer_length(), pdu.sns());
        }
        Response::AsyncMessage(pdu) => {
            assert_eq!(pdu.as_ref(), bhs.as_ref());
            let _ = (pdu.event(), pdu.async_vcode(), pdu.parameter1(), pdu.parameter2(), pdu.parameter3());
        }
        Response::Reject(pdu) => {
            assert_eq!(pdu.as_ref(), bhs.as_ref());
            let _ = (pdu.reason(), pdu.data_sn(), pdu.sns());
        }
    }
}

use super::*;

#[test]
fn kinds_come_back_by_name_and_no_other_text_does() {
    for kind in Kind::ALL {
        assert_eq!(Kind::parse(kind.as_str()), Some(kind));
        assert_eq!(kind.to_string(), kind.as_str());
    }
    for bad in ["", "Telemetry", " telemetry", "response", "alert"] {
        assert_eq!(Kind::parse(bad), None, "{bad}");
    }
}

/// A device that could send what ingest writes could forge reports and let time pass.
#[test]
fn devices_send_six_kinds_and_none_that_ingest_writes() {
    for kind in DeviceKind::ALL {
        assert_eq!(Kind::from(kind).of_device(), Some(kind));
    }
    let of_ingest = Kind::ALL.into_iter().filter(|kind| kind.of_device().is_none());
    assert_eq!(of_ingest.collect::<Vec<_>>(), [Kind::Reject, Kind::Sent, Kind::Pulse]);
}

#[test]
fn a_topic_names_each_kind_but_registrations() {
    for kind in DeviceKind::ALL {
        let found = DeviceKind::of_topic(Kind::from(kind).as_str());
        assert_eq!(found, Some(kind).filter(|kind| *kind != DeviceKind::Register));
    }
    for other in ["", "cmd", "reject", "sent", "pulse", "Status"] {
        assert_eq!(DeviceKind::of_topic(other), None, "{other}");
    }
}

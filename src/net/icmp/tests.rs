// SPDX-License-Identifier: Apache-2.0
use super::*;

const A4: &str = "192.0.2.1";
const B4: &str = "192.0.2.2";
const A6: &str = "2001:db8::1";
const B6: &str = "2001:db8::2";

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn emitted(ipv6: bool, bytes: u32, kind: Kind) -> Vec<u8> {
    let (source, to) = if ipv6 { (A6, B6) } else { (A4, B4) };
    emit::packet(&Packet { source: address(source), to: address(to), bytes, kind })
}

#[test]
fn a_packet_has_its_length_and_a_checksum_that_its_receiver_takes() {
    for kind in
        [Kind::Echo { ident: 7, sequence: 9 }, Kind::Datagram { from: 0x8001, port: 33_434 }]
    {
        for (ipv6, header) in [(false, 20), (true, 40)] {
            for bytes in [SMALL, 1279, 1500] {
                let packet = emitted(ipv6, bytes, kind);
                assert_eq!(packet.len(), bytes as usize);
                let payload = &packet[header..];
                let protocol = packet[if ipv6 { 6 } else { 9 }];
                let addresses = if ipv6 { &packet[8..40] } else { &packet[12..20] };
                let length = (payload.len() as u16).to_be_bytes();
                let pseudo = [addresses, &length, &[0, protocol]].concat();
                let pseudo = if protocol == 1 { &[][..] } else { &pseudo };
                assert_eq!(emit::checksum(&[pseudo, payload]), 0, "{kind:?} {bytes}");
            }
        }
        assert_eq!(emitted(false, 0, kind).len(), 28, "no shorter than its headers");
    }
    let packet = emitted(false, 1500, Kind::Echo { ident: 1, sequence: 2 });
    assert_eq!(packet[6] & 0x40, 0x40, "it may not be fragmented");
}

/// An ICMP message about a packet of ours.
fn error4(kind: u8, code: u8, mtu: u16, quoted: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, 1, 0, 0, 198, 51, 100, 1, 192, 0, 2, 1];
    bytes.extend([kind, code, 0, 0, 0, 0]);
    bytes.extend(mtu.to_be_bytes());
    bytes.extend(&quoted[..28]);
    bytes
}

#[test]
fn an_error_tells_who_and_why_and_of_which_packet() {
    let router = address("198.51.100.1");
    let datagram = emitted(false, 1500, Kind::Datagram { from: 0x8001, port: 4789 });
    for (kind, code, mtu, why) in [
        (3, 0, 0, Why::Network),
        (3, 1, 0, Why::Host),
        (3, 2, 0, Why::Protocol),
        (3, 3, 0, Why::Port),
        (3, 4, 1400, Why::TooBig(1400)),
        (3, 13, 0, Why::Prohibited),
        (11, 0, 0, Why::Loop),
    ] {
        let about = Quoted { to: address(B4), protocol: 17, pair: [0x8001, 4789] };
        let came = parse::ipv4(&error4(kind, code, mtu, &datagram));
        assert_eq!(came, Some(Came::Error { by: router, why, about }));
    }
    let echo = emitted(true, 1500, Kind::Echo { ident: 7, sequence: 9 });
    let mut message = vec![2, 0, 0, 0];
    message.extend(1280_u32.to_be_bytes());
    message.extend(&echo[..48]);
    let about = Quoted { to: address(B6), protocol: 58, pair: [7, 9] };
    let came = parse::ipv6(router, &message);
    assert_eq!(came, Some(Came::Error { by: router, why: Why::TooBig(1280), about }));
    for length in 0..message.len() - 8 {
        assert_eq!(parse::ipv6(router, &message[..length]), None, "{length} bytes");
    }
    let whole = error4(3, 3, 0, &datagram);
    for length in 0..whole.len() - 8 {
        assert_eq!(parse::ipv4(&whole[..length]), None, "{length} bytes");
    }
}

#[test]
fn answers_and_questions_are_told_apart() {
    let mut reply = emitted(false, SMALL, Kind::Echo { ident: 7, sequence: 9 });
    assert_eq!(parse::ipv4(&reply), Some(Came::Request { from: address(A4) }));
    reply[20] = 0;
    let came = Came::Reply { from: address(A4), ident: 7, sequence: 9 };
    assert_eq!(parse::ipv4(&reply), Some(came));
    let reply = [129, 0, 0, 0, 0, 7, 0, 9];
    let came = Came::Reply { from: address(B6), ident: 7, sequence: 9 };
    assert_eq!(parse::ipv6(address(B6), &reply), Some(came));
    // A neighbour asks for another.
    assert_eq!(parse::ipv6(address(B6), &[135, 0, 0, 0, 0, 0, 0, 0]), None);
}

//! What is opened passes, in both families, for those it is opened for, and for nobody else.

use std::net::IpAddr;
use std::time::Duration;

use scrap_host::net::{Opening, Peers, Protocol};

use crate::frames::Inside;
use crate::lab::{GRAINS, INTERNET4, Lab, Node, internet6, lan4, lan6};
use crate::may_run;
use crate::probe::{API, Ears, Heard, Mouth};

fn opening(protocol: Protocol, port: Option<u16>, peers: Peers) -> Opening {
    Opening { protocol, ports: port.map(|port| (port, port)), peers }
}

/// Honest packets of every grain to everybody.
fn probe(lab: &Lab, ears: &Ears) -> Heard {
    for name in ["a1", "a2", "b1", "b2"] {
        let mouth = Mouth::new(lab, name);
        for (to, last) in
            [("a1", 41), ("a2", 42), ("b1", 51), ("b2", 52), ("a", 11), ("b", 12), ("client", 99)]
        {
            if to == name {
                continue;
            }
            for (family, address) in
                [("/4", IpAddr::V4(lan4(last))), ("/6", IpAddr::V6(lan6(last)))]
            {
                let to = format!("{to}{family}");
                for (how, inside) in
                    [("udp", Inside::Udp(API)), ("tcp-80", Inside::Tcp(80)), ("echo", Inside::Echo)]
                {
                    mouth.say(&mouth.honest(how, (&to, address), inside).bytes());
                }
            }
        }
        for (to, address) in [("internet/4", INTERNET4.into()), ("internet/6", internet6().into())]
        {
            mouth.say(&mouth.honest("tcp-80", (to, address), Inside::Tcp(80)).bytes());
        }
    }
    ears.listen(Duration::from_millis(400))
}

/// What is heard by those it is meant for. Nobody else may hear anything.
fn heard(lab: &Lab, ears: &Ears) -> Vec<String> {
    let heard = probe(lab, ears);
    let end = |what: &str| {
        let to = what.rsplit(' ').next().unwrap().split('/').next().unwrap().to_owned();
        if ["client", "router"].contains(&to.as_str()) { "lan".to_owned() } else { to }
    };
    let mut all: Vec<String> = heard
        .iter()
        .filter(|(what, ear)| end(what) == *ear)
        .map(|(what, _)| what.clone())
        .collect();
    // On its way to a grain of the other node, which decides about it, it is heard on the LAN.
    let on_its_way =
        |what: &str, ear: &str| ear == "lan" && GRAINS.iter().any(|grain| grain.0 == end(what));
    let ways: Vec<_> = heard
        .iter()
        .filter(|(what, ear)| end(what) != *ear && !all.contains(what) && !on_its_way(what, ear))
        .collect();
    assert!(ways.is_empty(), "heard by others: {ways:?}");
    all.sort();
    all
}

#[test]
fn an_opening_is_for_its_protocol_port_and_peers() {
    if !may_run() {
        return;
    }
    let (lab, mut nodes) = Lab::with_grains();
    let net = |address: IpAddr, length| Peers::Net(address, length);
    let anywhere = |protocol, port| opening(protocol, port, Peers::Anywhere);
    let a = nodes.get_mut("a").unwrap();
    // a1 may talk to everybody, a2 to the Internet, b1 to one address, b2 to nobody.
    a.open(41, vec![anywhere(Protocol::Tcp, Some(80))], vec![anywhere(Protocol::Any, None)]);
    a.open(
        42,
        vec![opening(Protocol::Icmp, None, net(lan4(41).into(), 32))],
        vec![opening(Protocol::Any, None, Peers::Internet)],
    );
    let b = nodes.get_mut("b").unwrap();
    b.open(
        51,
        vec![anywhere(Protocol::Udp, Some(API))],
        vec![opening(Protocol::Tcp, Some(80), net(lan6(41).into(), 128))],
    );
    b.open(52, vec![opening(Protocol::Any, None, Peers::Internet)], vec![]);
    nodes.values().for_each(Node::arrange);
    let ears = Ears::new(&lab);
    assert_eq!(
        heard(&lab, &ears),
        [
            // Whom a1 reaches has opened for it: a2 by ping of IPv4, b1 by UDP. b2 is open to the Internet alone.
            "a1 echo a2/4",
            "a1 echo client/4",
            "a1 echo client/6",
            "a1 tcp-80 client/4",
            "a1 tcp-80 client/6",
            "a1 tcp-80 internet/4",
            "a1 tcp-80 internet/6",
            "a1 udp b1/4",
            "a1 udp b1/6",
            "a1 udp client/4",
            "a1 udp client/6",
            "a2 tcp-80 internet/4",
            "a2 tcp-80 internet/6",
            "b1 tcp-80 a1/6",
        ]
    );
    // An opening that is taken away ends what it had opened.
    let a = nodes.get_mut("a").unwrap();
    a.open(41, vec![], vec![]);
    a.arrange();
    assert_eq!(heard(&lab, &ears), ["a2 tcp-80 internet/4", "a2 tcp-80 internet/6"]);
}

#[test]
fn connections_work_in_both_families_and_the_node_reaches_its_own() {
    if !may_run() {
        return;
    }
    let (lab, mut nodes) = Lab::with_grains();
    let anywhere = |port| opening(Protocol::Tcp, Some(port), Peers::Anywhere);
    nodes.get_mut("a").unwrap().open(41, vec![anywhere(80)], vec![anywhere(81)]);
    nodes.values().for_each(Node::arrange);
    for family in [4, 6] {
        let address = |last: u8| -> IpAddr {
            if family == 4 { lan4(last).into() } else { lan6(last).into() }
        };
        for (from, to, last, port, reached) in [
            ("client", "a1", 41, 80, true),
            ("internet", "a1", 41, 80, true),
            ("b", "a1", 41, 80, true),
            ("a", "a1", 41, 80, true),
            ("a", "a1", 41, 82, true),
            ("a", "a2", 42, 80, true),
            ("client", "a1", 41, 82, false),
            ("client", "a2", 42, 80, false),
            ("b", "a2", 42, 80, false),
            ("a1", "client", 99, 81, true),
            ("a1", "client", 99, 80, false),
            ("a1", "b", 12, 81, false),
            ("a2", "a1", 41, 80, false),
            ("b1", "a1", 41, 80, false),
        ] {
            let listener =
                lab.enter(to, || std::net::TcpListener::bind((address(last), port)).unwrap());
            let limit = Duration::from_millis(if reached { 5000 } else { 300 });
            let connected = lab.enter(from, || {
                std::net::TcpStream::connect_timeout(&(address(last), port).into(), limit)
            });
            assert_eq!(
                connected.is_ok(),
                reached,
                "{from} to {to}:{port} by IPv{family}: {connected:?}"
            );
            drop(listener);
        }
    }
}

#[test]
fn an_error_that_belongs_to_another_connection_does_not_pass() {
    if !may_run() {
        return;
    }
    let (lab, mut nodes) = Lab::with_grains();
    let a = nodes.get_mut("a").unwrap();
    a.open(41, vec![opening(Protocol::Tcp, Some(80), Peers::Anywhere)], vec![]);
    nodes.values().for_each(Node::arrange);
    let ears = Ears::new(&lab);
    // A connection of the node itself, with ports that the grain guesses.
    let node: std::net::SocketAddr = (lan4(11), 4001).into();
    let client = lab.enter("client", || std::net::UdpSocket::bind((lan4(99), 4002)).unwrap());
    lab.enter("a", || {
        let socket = std::net::UdpSocket::bind(node).unwrap();
        socket.send_to(b"x", client.local_addr().unwrap()).unwrap();
    });
    let mouth = Mouth::new(&lab, "a1");
    let quoted = [
        &[3, 3, 0, 0, 0, 0, 0, 0][..],
        &[0x45, 0, 0, 29, 0, 0, 0, 0, 64, 17, 0, 0],
        &lan4(11).octets(),
        &lan4(99).octets(),
        &4001_u16.to_be_bytes(),
        &4002_u16.to_be_bytes(),
        &[0, 9, 0, 0],
    ];
    let error =
        mouth.honest("icmp-error", ("a", lan4(11).into()), Inside::Message(quoted.concat()));
    mouth.say(&error.bytes());
    assert_eq!(ears.listen(Duration::from_millis(400)), Heard::new());
}

#[test]
fn a_grain_that_may_talk_to_everybody_speaks_as_itself_alone() {
    if !may_run() {
        return;
    }
    let (lab, mut nodes) = Lab::with_grains();
    let a = nodes.get_mut("a").unwrap();
    let anywhere = || vec![opening(Protocol::Any, None, Peers::Anywhere)];
    a.open(41, anywhere(), anywhere());
    a.open(42, anywhere(), anywhere());
    nodes.values().for_each(Node::arrange);
    let ears = Ears::new(&lab);
    Mouth::new(&lab, "a1").say_everything();
    let heard = ears.listen(Duration::from_millis(400));
    for (to, ear) in
        [("a2/4", "a2"), ("a2/6", "a2"), ("client/4", "lan"), ("internet/6", "internet")]
    {
        for how in ["udp", "tcp", "echo", "ttl-255"] {
            let what = format!("a1 {how} {to}");
            assert!(heard.contains(&(what.clone(), ear.to_owned())), "{what} at {ear}: {heard:#?}");
        }
    }
    let honest = ["udp", "tcp", "tcp-80", "echo", "ttl-255"];
    let lies: Vec<_> = heard
        .iter()
        .filter(|(what, ear)| {
            let how = what.split(' ').nth(1).unwrap();
            let asks = how == "solicitation" && what.ends_with(" gateway/6");
            let node = ["a", "b"].contains(&ear.as_str());
            !asks && (!honest.contains(&how) || node)
        })
        .collect();
    assert!(lies.is_empty(), "{lies:#?}");

    // What is opened is closed at once when the table is gone, for everybody.
    for node in ["a", "b"] {
        lab.nft(node, "flush ruleset");
    }
    Mouth::new(&lab, "a1").say_everything();
    Mouth::new(&lab, "b1").say_everything();
    assert_eq!(ears.listen(Duration::from_millis(400)), Heard::new());
}

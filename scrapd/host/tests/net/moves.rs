//! An address that moves from one node to the other: those who use it keep it.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use scrap_host::net::{Opening, Peers, Protocol};

use crate::lab::{Lab, Node, attachment, lan4, lan6};
use crate::may_run;

/// Talks to whoever answers at an address; how long nobody did.
fn gap(lab: &Lab, address: IpAddr, moved: &AtomicBool, seen: &AtomicBool) -> Duration {
    lab.enter("client", || {
        let (mut last, mut longest) = (Instant::now(), Duration::ZERO);
        let limit = Instant::now() + Duration::from_secs(30);
        let mut after = 0;
        while after < 20 {
            assert!(Instant::now() < limit, "{address} did not come back");
            let answers = || {
                let mut stream =
                    TcpStream::connect_timeout(&(address, 80).into(), Duration::from_millis(50))
                        .ok()?;
                stream.set_read_timeout(Some(Duration::from_millis(50))).ok()?;
                stream.write_all(b"x").ok()?;
                stream.read_exact(&mut [0]).ok()
            };
            if answers().is_some() {
                longest = longest.max(last.elapsed());
                last = Instant::now();
                seen.store(true, Ordering::Release);
                after += u32::from(moved.load(Ordering::Acquire));
            }
        }
        longest
    })
}

fn serve(listener: &TcpListener) {
    for stream in listener.incoming() {
        let Ok(mut stream) = stream else { continue };
        let mut byte = [0];
        if stream.read_exact(&mut byte).is_ok() {
            let _ = stream.write_all(&byte);
        }
    }
}

#[test]
fn an_address_follows_its_grain() {
    if !may_run() {
        return;
    }
    for v4 in [true, false] {
        let lab = Lab::new();
        let (mut a, mut b) = (lab.node("a"), lab.node("b"));
        let ingress =
            Opening { protocol: Protocol::Tcp, ports: Some((80, 80)), peers: Peers::Anywhere };
        let grain = attachment(41, vec![ingress], vec![]);
        let address: IpAddr = if v4 { lan4(41).into() } else { lan6(41).into() };
        for name in ["a1", "b1"] {
            lab.space(name);
        }
        let start = |node: &mut Node, on: &str, space: &str| {
            node.wanted.insert(grain.grain, grain.clone());
            node.arrange();
            lab.attach(on, space, &grain);
            node.arrange();
            let listener = lab.enter(space, || TcpListener::bind((address, 80)).unwrap());
            std::thread::spawn(move || serve(&listener));
            node.block(|net| net.announce(&grain)).unwrap();
        };
        start(&mut a, "a", "a1");
        let (moved, seen) = (AtomicBool::new(false), AtomicBool::new(false));
        let gap = std::thread::scope(|scope| {
            let client = scope.spawn(|| gap(&lab, address, &moved, &seen));
            while !seen.load(Ordering::Acquire) && !client.is_finished() {
                std::thread::yield_now();
            }
            let begin = Instant::now();
            lab.detach("a", &grain);
            a.wanted.clear();
            a.arrange();
            start(&mut b, "b", "b1");
            moved.store(true, Ordering::Release);
            println!(
                "{address}: stopped, arranged twice, started, announced in {:?}",
                begin.elapsed()
            );
            client.join().unwrap()
        });
        println!("{address}: nobody answered for {gap:?}");
    }
}

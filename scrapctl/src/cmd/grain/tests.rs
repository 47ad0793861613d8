//! What `launch` asks for.

use clap::Parser as _;
use expect_test::{Expect, expect};
use scrap_schema::manifest;

use crate::cli::{Cli, Command};

#[expect(clippy::needless_pass_by_value, reason = "a golden is written where it is used")]
fn check(line: &str, expected: Expect) {
    let cli = Cli::try_parse_from(line.split(' ')).unwrap();
    let Command::Launch(args) = cli.command else { panic!("{line}") };
    let manifest = super::launch_manifest(args);
    expected.assert_eq(&manifest.to_string());
    // Whatever it says, the schema accepts it.
    manifest::parse("-", &manifest.to_string()).unwrap();
}

#[test]
fn only_what_was_said_is_written() {
    check(
        "scrapctl launch process web -- sleep 60",
        expect![[
            r#"{"apiVersion":"scrap/v1","kind":"Grain","metadata":{"name":"web"},"spec":{"command":["sleep","60"],"template":"process"}}"#
        ]],
    );
}

#[test]
fn everything_can_be_said() {
    check(
        "scrapctl launch process web --cpu 0.5 --memory 64MiB --disk 1GiB --protect prompt \
         --health-port 8080 --health-path /up --env PORT=8080 --env A=b=c --label app=web --stopped \
         -- ./serve --port 8080"
            .replace("         ", "")
            .as_str(),
        expect![[r#"{"apiVersion":"scrap/v1","kind":"Grain","metadata":{"labels":{"app":"web"},"name":"web"},"spec":{"command":["./serve","--port","8080"],"env":{"A":"b=c","PORT":"8080"},"health":{"http":{"path":"/up","port":8080}},"protect":"prompt","resources":{"cpu":0.5,"disk":"1GiB","memory":"64MiB"},"running":false,"template":"process"}}"#]],
    );
}

#[test]
fn a_port_alone_is_a_tcp_check() {
    check(
        "scrapctl launch process web --health-port 80 -- x",
        expect![[
            r#"{"apiVersion":"scrap/v1","kind":"Grain","metadata":{"name":"web"},"spec":{"command":["x"],"health":{"tcp":{"port":80}},"template":"process"}}"#
        ]],
    );
}

#[test]
fn a_system_with_an_address_and_open_ports() {
    check(
        "scrapctl launch debian-13 mail --network grains --ip 10.0.0.7 --ip fd00::7 --expose 25 --expose 8000-8010/udp",
        expect![[
            r#"{"apiVersion":"scrap/v1","kind":"Grain","metadata":{"name":"mail"},"spec":{"ingress":[{"port":25,"protocol":"tcp"},{"ports":"8000-8010","protocol":"udp"}],"network":{"address":"10.0.0.7","address6":"fd00::7","name":"grains"},"template":"debian-13"}}"#
        ]],
    );
}

#[test]
fn what_is_no_port_or_template_is_refused_before_anybody_is_asked() {
    for line in [
        "scrapctl launch ../debian web",
        "scrapctl launch debian-13 mail --expose 25",
        "scrapctl launch debian-13 mail --network grains --expose 0",
        "scrapctl launch debian-13 mail --network grains --expose 80/icmp",
        "scrapctl launch debian-13 mail --network grains --ip 10.0.0.7/24",
    ] {
        assert!(Cli::try_parse_from(line.split(' ')).is_err(), "{line}");
    }
}

//! What is wrong with health checks.

use super::{arguments, short};
use crate::problem::FieldError;
use crate::spec::{Check, ExecCheck, Health, HttpCheck, TcpCheck};
use crate::strict::{Validate, within};
use crate::unit::Span;

const PATH_LENGTH_MAX: usize = 1024;
const CHECKS_MAX: usize = 16;
const EVERY_MIN: Span = Span::from_ms(100);
const TIMEOUT_MIN: Span = Span::from_ms(100);
const TIMEOUT_MAX: Span = Span::from_secs(300);

impl Validate for Health {
    fn validate(&self) -> Vec<FieldError> {
        let mut faults = Vec::new();
        if self.each().next().is_none() && self.checks.is_empty() {
            let fault = FieldError::new("", "a health check needs `tcp`, `http` or `exec`");
            faults.push(fault.with_hint("write for example: {http: {port: 8080, path: /}}"));
        }
        faults.extend(each(self.tcp.as_ref(), self.http.as_ref(), self.exec.as_ref()));
        if self.checks.len() > CHECKS_MAX {
            let detail = format!("{} checks are more than {CHECKS_MAX}", self.checks.len());
            faults.push(FieldError::new("/checks", detail));
        }
        for (index, check) in self.checks.iter().enumerate() {
            faults.extend(within(&format!("/checks/{index}"), check.validate()));
        }
        if self.every < EVERY_MIN {
            let detail = format!("checks every {} are closer than {EVERY_MIN}", self.every);
            faults.push(FieldError::new("/every", detail));
        }
        if self.timeout < TIMEOUT_MIN || self.timeout > TIMEOUT_MAX {
            let detail = format!("{} is not between {TIMEOUT_MIN} and {TIMEOUT_MAX}", self.timeout);
            faults.push(FieldError::new("/timeout", detail));
        }
        faults
    }
}

impl Validate for Check {
    fn validate(&self) -> Vec<FieldError> {
        let mut faults = Vec::new();
        match self.each().count() {
            1 => (),
            0 => {
                let fault = FieldError::new("", "a check is one of `tcp`, `http`, `exec`");
                faults.push(fault.with_hint("write for example: {tcp: {port: 993}}"));
            }
            _ => {
                let fault = FieldError::new("", "one item is one check");
                faults.push(fault.with_hint("make a list item of each of them"));
            }
        }
        faults.extend(each(self.tcp.as_ref(), self.http.as_ref(), self.exec.as_ref()));
        faults
    }
}

fn each(
    tcp: Option<&TcpCheck>,
    http: Option<&HttpCheck>,
    exec: Option<&ExecCheck>,
) -> Vec<FieldError> {
    let mut faults = Vec::new();
    faults.extend(tcp.and_then(|tcp| port("/tcp/port", tcp.port)));
    faults.extend(http.into_iter().flat_map(|http| within("/http", http.validate())));
    faults.extend(exec.into_iter().flat_map(|exec| within("/exec", exec.validate())));
    faults
}

impl Validate for ExecCheck {
    fn validate(&self) -> Vec<FieldError> {
        let mut faults = arguments("/command", &self.command);
        if self.command.is_empty() {
            let fault = FieldError::new("/command", "a check needs a program");
            faults.push(fault.with_hint("write it as a list: [/usr/bin/doveadm, service, status]"));
        }
        faults
    }
}

impl Validate for HttpCheck {
    fn validate(&self) -> Vec<FieldError> {
        let mut faults: Vec<FieldError> = port("/port", self.port).into_iter().collect();
        if !self.path.starts_with('/') {
            let fault = FieldError::new(
                "/path",
                format!("the path `{}` does not begin with `/`", short(&self.path)),
            );
            faults.push(fault.with_hint(format!("write `/{}`", short(&self.path))));
        }
        if self.path.len() > PATH_LENGTH_MAX
            || !self.path.bytes().all(|byte| byte.is_ascii_graphic())
        {
            let detail = format!(
                "the path must be at most {PATH_LENGTH_MAX} printable ASCII characters without spaces"
            );
            faults
                .push(FieldError::new("/path", detail).with_hint("write other characters as %XX"));
        }
        faults
    }
}

pub(super) fn port(pointer: &str, port: u16) -> Option<FieldError> {
    (port == 0).then(|| FieldError::new(pointer, "port 0 does not exist").with_hint("1 to 65535"))
}

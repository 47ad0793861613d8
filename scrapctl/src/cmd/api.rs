//! `api`: a request as it is, and the answer as it is.

use std::io::Read as _;

use super::Ctx;
use crate::cli::{ApiArgs, Method};
use crate::client::call::Call;
use crate::failure::Failure;

/// Sends a request and prints the answer.
pub(crate) async fn api(ctx: &Ctx, args: ApiArgs) -> Result<(), Failure> {
    let mut call = call(&args)?;
    if let Some(data) = &args.data {
        let bytes = body(data)?;
        let first = bytes.iter().find(|byte| !byte.is_ascii_whitespace());
        let json = matches!(first, Some(b'{' | b'['));
        let kind = if json { "application/json" } else { "application/yaml" };
        call = call.bytes(kind, bytes);
    }
    if let Some(etag) = &args.if_match {
        call = call.header("if-match", etag);
    }
    let mut response = ctx.client.open(&call.header("accept", "*/*")).await?;
    let mut last = None;
    loop {
        let chunk = response.chunk().await.map_err(|error| {
            let outcome = crate::client::retry::describe(&error);
            Failure::local(format!("the answer {outcome}"))
        })?;
        let Some(chunk) = chunk else { break };
        last = chunk.last().copied().or(last);
        ctx.print.out_bytes(&chunk)?;
    }
    // A shell's next prompt belongs on its own line.
    if ctx.settings.environment.stdout_tty && last.is_some_and(|byte| byte != b'\n') {
        ctx.print.out_bytes(b"\n")?;
    }
    Ok(())
}

/// The path as the documentation writes it, with its query.
fn call(args: &ApiArgs) -> Result<Call, Failure> {
    let url = reqwest::Url::parse("http://node")
        .and_then(|base| base.join(&args.path))
        .map_err(|error| Failure::usage(format!("`{}` is no path: {error}", args.path)))?;
    let rest =
        url.path().strip_prefix("/v1").filter(|rest| rest.is_empty() || rest.starts_with('/'));
    if !args.path.starts_with('/') || url.fragment().is_some() {
        return Err(Failure::usage(format!("`{}` must be a path such as `/v1/grains`", args.path)));
    }
    let segments: Vec<String> = match rest {
        Some(rest) => rest.split('/').filter(|it| !it.is_empty()).map(decode).collect(),
        None => {
            let all = url.path().split('/').filter(|it| !it.is_empty());
            return Ok(with_query(
                Call::at_root(method(args.method), &all.collect::<Vec<_>>()),
                &url,
            ));
        }
    };
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    let call = match args.method {
        // With a key: what is sent twice because an answer got lost has one effect.
        Method::Post => Call::post(&segments),
        Method::Get | Method::Put | Method::Patch | Method::Delete => {
            Call::new(method(args.method), &segments)
        }
    };
    Ok(with_query(call, &url))
}

fn with_query(call: Call, url: &reqwest::Url) -> Call {
    url.query_pairs().fold(call, |call, (key, value)| call.query(&key, value))
}

fn method(method: Method) -> reqwest::Method {
    match method {
        Method::Get => reqwest::Method::GET,
        Method::Post => reqwest::Method::POST,
        Method::Put => reqwest::Method::PUT,
        Method::Patch => reqwest::Method::PATCH,
        Method::Delete => reqwest::Method::DELETE,
    }
}

/// `%40` back to `@`: segments are encoded again when they are sent.
fn decode(segment: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = segment.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let escaped = after.get(..2).filter(|_| *first == b'%');
        let escaped = escaped.and_then(|hex| std::str::from_utf8(hex).ok());
        match escaped.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn body(data: &str) -> Result<Vec<u8>, Failure> {
    if data == "-" {
        let mut bytes = Vec::new();
        std::io::stdin()
            .read_to_end(&mut bytes)
            .map_err(|error| Failure::local(format!("cannot read stdin: {error}")))?;
        return Ok(bytes);
    }
    match data.strip_prefix('@') {
        Some(path) => std::fs::read(path).map_err(|source| Failure::File {
            what: "cannot read",
            path: path.into(),
            source,
        }),
        None => Ok(data.as_bytes().to_vec()),
    }
}

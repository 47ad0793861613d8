//! Flags, environment and configuration file become plain values here, once. Pure but for [`Environment::read`];
//! the rest of the program never looks at the environment.

pub(crate) mod config;
pub(crate) mod known;

use std::path::PathBuf;
use std::time::Duration;

use scrap_schema::api::API_PORT;

use crate::cli::{ColorWhen, GlobalArgs, Output, ProgressForm};
use crate::failure::Failure;
use crate::settings::config::Config;

/// What the environment says.
#[derive(Debug, Clone, Default)]
pub(crate) struct Environment {
    /// `SCRAP_CONTEXT`.
    pub(crate) context: Option<String>,
    /// `SCRAP_SERVER`.
    pub(crate) server: Option<String>,
    /// `SCRAP_CONFIG`, or the default place.
    pub(crate) config: Option<PathBuf>,
    /// Where addresses of nodes are remembered.
    pub(crate) known: Option<PathBuf>,
    /// `NO_COLOR` is set and not empty.
    pub(crate) no_color: bool,
    /// `CLICOLOR_FORCE` is set and not `0`.
    pub(crate) force_color: bool,
    /// `TERM` is `dumb`.
    pub(crate) dumb: bool,
    /// The locale is UTF-8.
    pub(crate) utf8: bool,
    /// `VISUAL` or `EDITOR`.
    pub(crate) editor: Option<String>,
    /// The reader's name, by `SUDO_USER`, `USER` or `LOGNAME`.
    pub(crate) person: Option<String>,
    /// stdin is a terminal.
    pub(crate) stdin_tty: bool,
    /// stdout is a terminal.
    pub(crate) stdout_tty: bool,
    /// stderr is a terminal.
    pub(crate) stderr_tty: bool,
}

impl Environment {
    /// Reads it, once.
    pub(crate) fn read() -> Self {
        use std::io::IsTerminal as _;
        let text = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let home = text("HOME").map(PathBuf::from);
        let base = |name: &str, below_home: &str| {
            let given = text(name).map(PathBuf::from).filter(|path| path.is_absolute());
            given.or_else(|| home.as_ref().map(|home| home.join(below_home)))
        };
        let locale = text("LC_ALL").or_else(|| text("LC_CTYPE")).or_else(|| text("LANG"));
        let locale = locale.unwrap_or_default().to_lowercase();
        Self {
            context: text("SCRAP_CONTEXT"),
            server: text("SCRAP_SERVER"),
            config: text("SCRAP_CONFIG").map(PathBuf::from).or_else(|| {
                base("XDG_CONFIG_HOME", ".config").map(|dir| dir.join("scrap/config.toml"))
            }),
            known: base("XDG_STATE_HOME", ".local/state").map(|dir| dir.join("scrap/servers.json")),
            no_color: text("NO_COLOR").is_some(),
            force_color: text("CLICOLOR_FORCE").is_some_and(|value| value != "0"),
            dumb: text("TERM").is_some_and(|value| value == "dumb"),
            utf8: locale.contains("utf-8") || locale.contains("utf8"),
            editor: text("VISUAL").or_else(|| text("EDITOR")),
            person: text("SUDO_USER").or_else(|| text("USER")).or_else(|| text("LOGNAME")),
            stdin_tty: std::io::stdin().is_terminal(),
            stdout_tty: std::io::stdout().is_terminal(),
            stderr_tty: std::io::stderr().is_terminal(),
        }
    }
}

/// From where the servers are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// `--server`.
    Flag,
    /// `SCRAP_SERVER`.
    Environment,
    /// A context of the configuration.
    Context(String),
    /// Nobody said anything: this machine, and the ports of `make demo`.
    Default,
}

/// Everything that was said, resolved.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// Form of the answer.
    pub(crate) output: Output,
    /// Addresses to try, as `http://host:port`, in order.
    pub(crate) servers: Vec<String>,
    /// From where they are known.
    pub(crate) origin: Origin,
    /// `--timeout`.
    pub(crate) timeout: Option<Duration>,
    /// Ask for the node's own copy.
    pub(crate) stale: bool,
    /// Form of progress; never `Auto`.
    pub(crate) progress: Progress,
    /// Colour on stdout.
    pub(crate) color_out: bool,
    /// Colour on stderr.
    pub(crate) color_err: bool,
    /// No remarks.
    pub(crate) quiet: bool,
    /// More about errors.
    pub(crate) verbose: bool,
    /// What the environment says, for the few commands that need more of it.
    pub(crate) environment: Environment,
}

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Lines that move.
    Live,
    /// One line per step.
    Plain,
    /// JSON lines.
    Json,
    /// Nothing.
    None,
}

/// The nodes of `make demo` beside the one on the default port.
const DEMO_PORTS: [u16; 2] = [7282, 7292];

/// Flags win over the environment, the environment over the file, the file over the defaults.
pub(crate) fn resolve(
    flags: &GlobalArgs,
    environment: Environment,
    config: &Config,
) -> Result<Settings, Failure> {
    let (servers, origin) = servers(flags, &environment, config)?;
    let plain = environment.no_color || environment.dumb;
    let color = |tty: bool| match flags.color {
        Some(ColorWhen::Always) => true,
        Some(ColorWhen::Never) => false,
        Some(ColorWhen::Auto) | None => environment.force_color || (tty && !plain),
    };
    let progress = match flags.progress {
        _ if flags.quiet => Progress::None,
        Some(ProgressForm::Plain) => Progress::Plain,
        Some(ProgressForm::Json) => Progress::Json,
        Some(ProgressForm::None) => Progress::None,
        Some(ProgressForm::Auto) | None if environment.stderr_tty && !environment.dumb => {
            Progress::Live
        }
        Some(ProgressForm::Auto) | None => Progress::Plain,
    };
    Ok(Settings {
        output: flags.output.unwrap_or(Output::Table),
        servers,
        origin,
        timeout: flags.timeout.map(|span| Duration::from_millis(span.ms())),
        stale: flags.stale,
        progress,
        color_out: color(environment.stdout_tty),
        color_err: color(environment.stderr_tty),
        quiet: flags.quiet,
        verbose: flags.verbose,
        environment,
    })
}

fn servers(
    flags: &GlobalArgs,
    environment: &Environment,
    config: &Config,
) -> Result<(Vec<String>, Origin), Failure> {
    if !flags.server.is_empty() {
        return Ok((addresses(&flags.server)?, Origin::Flag));
    }
    // A context on the command line is nearer than a server in the environment.
    if flags.context.is_none()
        && let Some(server) = &environment.server
    {
        let parts: Vec<String> = server.split(',').map(str::to_owned).collect();
        return Ok((addresses(&parts)?, Origin::Environment));
    }
    let named = flags.context.as_ref().or(environment.context.as_ref());
    let Some(name) = named.or(config.current.as_ref()) else {
        let ports = [API_PORT].into_iter().chain(DEMO_PORTS);
        let here = ports.map(|port| format!("http://127.0.0.1:{port}")).collect();
        return Ok((here, Origin::Default));
    };
    let Some(context) = config.contexts.get(name) else {
        let known: Vec<&str> = config.contexts.keys().map(String::as_str).collect();
        let hint = match (crate::nearest::nearest(name, &known), known.is_empty()) {
            (Some(near), _) => format!("did you mean `{near}`?"),
            (None, true) => format!("make it: scrapctl context add {name} HOST:PORT"),
            (None, false) => format!("there are: {}", known.join(", ")),
        };
        return Err(Failure::Usage {
            message: format!("there is no context `{name}`"),
            hint: Some(hint),
        });
    };
    Ok((addresses(&context.servers)?, Origin::Context(name.clone())))
}

/// Addresses of servers; there must be one.
pub(crate) fn addresses(texts: &[String]) -> Result<Vec<String>, Failure> {
    let texts = texts.iter().map(|text| text.trim()).filter(|text| !text.is_empty());
    let addresses: Vec<String> = texts.map(address).collect::<Result<_, _>>()?;
    if addresses.is_empty() {
        return Err(Failure::usage("no server is named"));
    }
    Ok(addresses)
}

/// `ada`, `ada:7272` and `http://ada:7272/` become `http://ada:7272`.
pub(crate) fn address(text: &str) -> Result<String, Failure> {
    let bad = |reason: &str| Failure::Usage {
        message: format!("`{text}` is not the address of a server: {reason}"),
        hint: Some("write `host:port`, such as `ada:7272`".to_owned()),
    };
    if text.starts_with("https://") {
        return Err(bad("this version speaks plain HTTP only"));
    }
    let rest = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
    if rest.is_empty() || rest.contains(['/', '?', '#', '@', ' ']) {
        return Err(bad("only a host and a port are allowed"));
    }
    let url = reqwest::Url::parse(&format!("http://{rest}")).map_err(|e| bad(&e.to_string()))?;
    let host = url.host_str().ok_or_else(|| bad("it names no host"))?;
    // `Url` drops port 80 because it is HTTP's own; somebody who wrote it means it.
    let port = url.port().unwrap_or(if rest.ends_with(":80") { 80 } else { API_PORT });
    Ok(format!("http://{host}:{port}"))
}

#[cfg(test)]
mod tests;

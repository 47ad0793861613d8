//! `context …`: which cluster to talk to. The only commands that write the configuration.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{Ctx, show};
use crate::cli::{ContextCommand, ListArgs};
use crate::client::shown;
use crate::failure::Failure;
use crate::render::grid::{Cell, Column, Grid};
use crate::render::text::Theme;
use crate::settings::config::{Config, Context, load, save};
use crate::settings::{Origin, addresses};

const COLUMNS: &[Column] = &[
    Column::new("NAME", "name"),
    Column::new("CURRENT", "current"),
    Column::new("SERVERS", "servers"),
];

#[derive(Serialize)]
struct Shown<'a> {
    name: &'a str,
    current: bool,
    servers: &'a [String],
}

#[derive(Serialize)]
struct Used<'a> {
    context: Option<&'a str>,
    origin: &'a str,
    servers: &'a [String],
    config: Option<&'a Path>,
}

/// `context …`.
pub(crate) fn run(ctx: &Ctx, command: ContextCommand) -> Result<(), Failure> {
    let path = ctx.settings.environment.config.clone();
    let mut config = load(path.as_deref())?;
    match command {
        ContextCommand::Ls => ls(ctx, &config),
        ContextCommand::Show => used(ctx, path.as_deref()),
        ContextCommand::Use(args) => {
            let name = existing(&config, args.name.as_str())?;
            config.current = Some(name);
            save(&place(path)?, &config)?;
            ctx.print.note(&format!("context {} is used from now on", args.name));
            Ok(())
        }
        ContextCommand::Add(args) => {
            let texts: Vec<String> =
                args.servers.iter().flat_map(|text| text.split(',')).map(str::to_owned).collect();
            let servers = addresses(&texts)?;
            config.contexts.insert(args.name.to_string(), Context { servers });
            // The first one is the one that is meant.
            config.current.get_or_insert_with(|| args.name.to_string());
            save(&place(path)?, &config)?;
            ctx.print.note(&format!("context {} is known", args.name));
            Ok(())
        }
        ContextCommand::Rm(args) => {
            let name = existing(&config, args.name.as_str())?;
            config.contexts.remove(&name);
            if config.current.as_deref() == Some(name.as_str()) {
                config.current = None;
                ctx.print.note("no context is current any more");
            }
            save(&place(path)?, &config)
        }
    }
}

fn place(path: Option<PathBuf>) -> Result<PathBuf, Failure> {
    path.ok_or_else(|| Failure::Local {
        message: "there is no place for the configuration: HOME is not set".to_owned(),
        hint: Some("set SCRAP_CONFIG to a file".to_owned()),
    })
}

fn existing(config: &Config, name: &str) -> Result<String, Failure> {
    if config.contexts.contains_key(name) {
        return Ok(name.to_owned());
    }
    let known: Vec<&str> = config.contexts.keys().map(String::as_str).collect();
    let hint = match crate::nearest::nearest(name, &known) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "what exists is listed by: scrapctl context ls".to_owned(),
    };
    Err(Failure::Missing { message: format!("there is no context `{name}`"), hint })
}

fn ls(ctx: &Ctx, config: &Config) -> Result<(), Failure> {
    let is_current = |name: &str| config.current.as_deref() == Some(name);
    let shown_all: Vec<Shown<'_>> = config
        .contexts
        .iter()
        .map(|(name, context)| Shown { name, current: is_current(name), servers: &context.servers })
        .collect();
    let grid = |_: Theme| {
        let rows = shown_all.iter().map(|it| {
            let servers: Vec<String> = it.servers.iter().map(|server| shown(server)).collect();
            vec![
                Cell::new(it.name),
                Cell::raw(if it.current { "*" } else { "" }, it.current),
                Cell::new(servers.join(",")),
            ]
        });
        Grid::new(COLUMNS, rows.collect())
    };
    let nothing = "there are no contexts; add one with: scrapctl context add NAME HOST:PORT";
    show::list(ctx, &shown_all, grid, &ListArgs::default(), nothing)
}

fn used(ctx: &Ctx, config: Option<&Path>) -> Result<(), Failure> {
    let (context, origin) = match &ctx.settings.origin {
        Origin::Flag => (None, "--server"),
        Origin::Environment => (None, "SCRAP_SERVER"),
        Origin::Context(name) => (Some(name.as_str()), "the configuration"),
        Origin::Default => (None, "nothing was said: this machine"),
    };
    let servers = &ctx.settings.servers;
    let used = Used { context, origin, servers, config };
    show::text(ctx, &used, |_| {
        let name = context.unwrap_or("none");
        let list: Vec<String> = servers.iter().map(|server| shown(server)).collect();
        let file = config.map_or("none".to_owned(), |path| path.display().to_string());
        let all = ctx.client.servers();
        let known = all.iter().filter(|it| !servers.contains(it)).map(|it| shown(it));
        let known = known.collect::<Vec<_>>().join(", ");
        let known = if known.is_empty() { "nothing more".to_owned() } else { known };
        format!(
            "context  {name}\nservers  {} (from {origin})\nlearnt   {known}\nfile     {file}\n",
            list.join(", ")
        )
    })
}

//! Writes an answer in the form that was asked for.

use serde::Serialize;

use super::Ctx;
use crate::cli::{ListArgs, Output};
use crate::failure::Failure;
use crate::render::grid::Grid;
use crate::render::text::{Theme, clean_json, is_unsafe};

/// A list of objects.
pub(crate) fn list<T: Serialize>(
    ctx: &Ctx,
    items: &[T],
    grid: impl FnOnce(Theme) -> Grid,
    list: &ListArgs,
    nothing: &str,
) -> Result<(), Failure> {
    match ctx.settings.output {
        Output::Json => json(ctx, &items),
        Output::Yaml => yaml(ctx, &items),
        form @ (Output::Table | Output::Wide | Output::Name | Output::Csv) => {
            let grid = grid(ctx.print.out_theme());
            if grid.is_empty() && ctx.for_people() {
                ctx.print.note(nothing);
                return Ok(());
            }
            rows(ctx, &grid, list, form)
        }
    }
}

/// One object: in full for people.
pub(crate) fn one<T: Serialize>(
    ctx: &Ctx,
    item: &T,
    text: impl FnOnce(Theme) -> String,
    grid: impl FnOnce(Theme) -> Grid,
) -> Result<(), Failure> {
    match ctx.settings.output {
        Output::Json => json(ctx, item),
        Output::Yaml => yaml(ctx, item),
        Output::Table | Output::Wide => ctx.print.out(&text(ctx.print.out_theme())),
        form @ (Output::Name | Output::Csv) => {
            rows(ctx, &grid(ctx.print.out_theme()), &ListArgs::default(), form)
        }
    }
}

/// Something that has no rows: text for people, JSON or YAML for programs.
pub(crate) fn text<T: Serialize>(
    ctx: &Ctx,
    item: &T,
    text: impl FnOnce(Theme) -> String,
) -> Result<(), Failure> {
    match ctx.settings.output {
        Output::Json => json(ctx, item),
        Output::Yaml => yaml(ctx, item),
        Output::Table | Output::Wide => ctx.print.out(&text(ctx.print.out_theme())),
        Output::Name | Output::Csv => Err(Failure::Usage {
            message: "this answer has no form for `-o name` or `-o csv`".to_owned(),
            hint: Some("use -o json or -o yaml".to_owned()),
        }),
    }
}

fn rows(ctx: &Ctx, grid: &Grid, list: &ListArgs, form: Output) -> Result<(), Failure> {
    let text = match form {
        Output::Csv => grid.csv(list)?,
        Output::Name => grid.names(list)?,
        Output::Wide => grid.table(list, true, ctx.print.out_theme())?,
        Output::Table | Output::Json | Output::Yaml => {
            grid.table(list, false, ctx.print.out_theme())?
        }
    };
    ctx.print.out(&text)
}

/// JSON with indents.
pub(crate) fn json<T: Serialize>(ctx: &Ctx, item: &T) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(item)
        .map_err(|error| Failure::local(format!("the answer cannot be written: {error}")))?;
    ctx.print.out(&clean_json(&text))
}

/// YAML, one document.
pub(crate) fn yaml<T: Serialize>(ctx: &Ctx, item: &T) -> Result<(), Failure> {
    ctx.print.out(&to_yaml(item)?)
}

/// YAML, one document per item.
pub(crate) fn yaml_documents<T: Serialize>(ctx: &Ctx, items: &[T]) -> Result<(), Failure> {
    let documents: Vec<String> = items.iter().map(to_yaml).collect::<Result<_, _>>()?;
    ctx.print.out(&documents.join("---\n"))
}

/// A value as YAML.
pub(crate) fn to_yaml<T: Serialize>(item: &T) -> Result<String, Failure> {
    let text = serde_saphyr::to_string(item)
        .map_err(|error| Failure::local(format!("the answer cannot be written: {error}")))?;
    if text.chars().any(|letter| letter != '\n' && is_unsafe(letter)) {
        // The YAML writer leaves some letters as they are that do things to a terminal. JSON is YAML too.
        let json = serde_json::to_string_pretty(item)
            .map_err(|error| Failure::local(format!("the answer cannot be written: {error}")))?;
        return Ok(format!("{}\n", clean_json(&json)));
    }
    Ok(if text.ends_with('\n') { text } else { format!("{text}\n") })
}

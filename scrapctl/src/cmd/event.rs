//! `events`.

use scrap_schema::api::{ClusterView, EventsView};

use super::names::Noun;
use super::{Ctx, operation, show};
use crate::cli::{EventsArgs, ListArgs, Output};
use crate::client::call::Call;
use crate::client::events::{Filter, Follow, Incoming};
use crate::failure::Failure;
use crate::render::events;

/// Prints what happened, and what happens if that is wanted.
pub(crate) async fn events(ctx: &Ctx, args: &EventsArgs) -> Result<(), Failure> {
    if args.follow { follow(ctx, args).await } else { list(ctx, args).await }
}

async fn list(ctx: &Ctx, args: &EventsArgs) -> Result<(), Failure> {
    let call = Call::get(&["events"])
        .query_if("since", args.since)
        .query_if("topic", args.topic.map(events::topic))
        .query_if("grain", args.grain.as_ref())
        .query_if("limit", args.limit);
    let names: Vec<_> = args.grain.iter().map(|grain| (Noun::Grain, grain)).collect();
    let view: EventsView = ctx.named(ctx.read(call).await, &names).await?;
    let clock = ctx.clock();
    let theme = ctx.print.out_theme();
    match ctx.settings.output {
        Output::Table | Output::Wide if view.events.is_empty() => {
            ctx.print.note("nothing happened");
            Ok(())
        }
        Output::Table | Output::Wide => {
            let lines = view.events.iter().map(|event| events::line(event, &clock, theme));
            ctx.print.out(&lines.collect::<String>())
        }
        // `index` and `oldest` belong to the answer: they are where to go on.
        Output::Json => show::json(ctx, &view),
        Output::Yaml => show::yaml(ctx, &view),
        Output::Name | Output::Csv => {
            let grid = |theme| events::grid(&view.events, theme, &clock);
            show::list(ctx, &view.events, grid, &ListArgs::default(), "")
        }
    }
}

async fn follow(ctx: &Ctx, args: &EventsArgs) -> Result<(), Failure> {
    match ctx.settings.output {
        Output::Table | Output::Wide | Output::Json => (),
        Output::Yaml | Output::Name | Output::Csv => {
            return Err(Failure::usage("--follow writes a table, or JSON lines with `-o json`"));
        }
    }
    let since = match args.since {
        Some(since) => since,
        None => ctx.client.value::<ClusterView>(&Call::get(&["cluster"])).await?.index,
    };
    operation::learn(ctx).await;
    let filter = Filter {
        topic: args.topic.map(|topic| events::topic(topic).to_owned()),
        grain: args.grain.as_ref().map(ToString::to_string),
    };
    let names: Vec<_> = args.grain.iter().map(|grain| (Noun::Grain, grain)).collect();
    let mut follow = Follow::new(&ctx.client, filter, Some(since));
    loop {
        let next = tokio::select! {
            next = follow.next() => next,
            () = operation::deadline(ctx.client.deadline()) => {
                let what = "the time of --timeout is over".to_owned();
                return Err(Failure::Timeout { what, operations: Vec::new() });
            }
        };
        match ctx.named(next, &names).await? {
            Incoming::Event(event, text) => match ctx.settings.output {
                Output::Json => {
                    ctx.print.out(&crate::render::text::clean_json(&text))?;
                }
                Output::Table | Output::Wide | Output::Yaml | Output::Name | Output::Csv => {
                    let line = events::line(&event, &ctx.clock(), ctx.print.out_theme());
                    ctx.print.out(&line)?;
                }
            },
            Incoming::Missed(since, oldest) => ctx.print.err(&format!(
                "warning: events after index {since} and up to {oldest} are no longer kept; some were missed"
            )),
        }
    }
}

//! `template …`.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use scrap_schema::api::TemplateView;
use scrap_schema::id::Name;
use scrap_schema::unit::Bytes;

use super::names::Noun;
use super::{Ctx, grain, show};
use crate::cli::{ListArgs, TemplateCommand, TemplateImportArgs};
use crate::client::call::Call;
use crate::client::upload;
use crate::failure::Failure;
use crate::render::templates;
use crate::settings::Progress;

/// How long an import may take if nobody says `--timeout`.
const IMPORT_LIMIT: Duration = Duration::from_secs(6 * 3600);
/// How often it is said how far it is, where nothing moves on the screen.
const SAY_EVERY: Duration = Duration::from_secs(10);

/// `template …`.
pub(crate) async fn run(ctx: &Ctx, command: TemplateCommand) -> Result<(), Failure> {
    match command {
        TemplateCommand::Import(args) => import(ctx, args).await,
        TemplateCommand::Ls(list) => ls(ctx, &list).await,
        TemplateCommand::Info(args) => info(ctx, &args.template).await,
        TemplateCommand::Rm(args) => rm(ctx, &args.template).await,
    }
}

async fn ls(ctx: &Ctx, list: &ListArgs) -> Result<(), Failure> {
    let all: Vec<TemplateView> = ctx.read(Call::get(&["templates"])).await?;
    let clock = ctx.clock();
    let grid = |theme| templates::grid(&all, &clock, theme);
    let nothing = "there are no templates yet; make one with `scrapctl template import`";
    show::list(ctx, &all, grid, list, nothing)
}

async fn info(ctx: &Ctx, template: &Name) -> Result<(), Failure> {
    let read = ctx.read(Call::get(&["templates", template.as_str()])).await;
    let view: TemplateView = ctx.named(read, &[(Noun::Template, template)]).await?;
    show_one(ctx, &view)
}

fn show_one(ctx: &Ctx, view: &TemplateView) -> Result<(), Failure> {
    let clock = ctx.clock();
    show::one(
        ctx,
        view,
        |theme| templates::info(view, &clock, theme),
        |theme| templates::grid(std::slice::from_ref(view), &clock, theme),
    )
}

async fn rm(ctx: &Ctx, template: &Name) -> Result<(), Failure> {
    let path = ["templates", template.as_str()];
    let read = ctx.client.send(&Call::get(&path)).await;
    let read = ctx.named(read, &[(Noun::Template, template)]).await?;
    grain::done_once(ctx.client.send(&Call::delete(&path, read.etag.as_deref())).await)?;
    ctx.print.note(&format!("template {template} is removed"));
    Ok(())
}

async fn import(ctx: &Ctx, args: TemplateImportArgs) -> Result<(), Failure> {
    let from = args.from.as_path();
    let unreadable = |source| Failure::File { what: "cannot read", path: from.to_owned(), source };
    let about = std::fs::metadata(from).map_err(unreadable)?;
    let sent = Arc::new(AtomicU64::new(0));
    let call = Call::post(&["templates"])
        .query("name", &args.name)
        .query_if("description", args.description.as_ref())
        .query_if("arch", args.arch.as_ref())
        .once()
        .patient(IMPORT_LIMIT)
        .answered_within(IMPORT_LIMIT);
    let (call, total) = match about.is_dir() {
        true => (call.streamed(upload::folder(from.to_owned(), sent.clone())), None),
        false => {
            // Whether it can be read is known before anybody is asked.
            drop(std::fs::File::open(from).map_err(unreadable)?);
            (
                call.streamed(upload::file(Vec::new(), from.to_owned(), sent.clone())),
                Some(about.len()),
            )
        }
    };
    let told = tokio::select! {
        reply = ctx.client.send(&call) => reply,
        () = tell(ctx, from, &sent, total) => return Err(Failure::local("the import was given up")),
    };
    let view: TemplateView = told?.json()?;
    ctx.print.note(&format!("template {} is imported", view.metadata.name));
    if ctx.for_people() { Ok(()) } else { show_one(ctx, &view) }
}

/// Says how far it is, until somebody ends this.
async fn tell(ctx: &Ctx, from: &Path, sent: &AtomicU64, total: Option<u64>) {
    let from = crate::render::text::clean(&from.display().to_string());
    let so_far = || Bytes(sent.load(Ordering::Relaxed));
    match ctx.settings.progress {
        Progress::Live => {
            let bar = total.map_or_else(ProgressBar::no_length, ProgressBar::new);
            let style = "  {msg}: {bytes} of {total_bytes}, {bytes_per_sec}";
            let style = if total.is_some() { style } else { "  {msg}: {bytes}, {bytes_per_sec}" };
            bar.set_style(
                ProgressStyle::with_template(style)
                    .unwrap_or_else(|_| ProgressStyle::default_spinner()),
            );
            bar.set_message(from);
            loop {
                tokio::time::sleep(Duration::from_millis(200)).await;
                bar.set_position(so_far().0);
            }
        }
        Progress::Plain => loop {
            tokio::time::sleep(SAY_EVERY).await;
            let of = total.map_or(String::new(), |it| format!(" of {}", Bytes(it).rounded()));
            ctx.print.note(&format!("{from}: {}{of} sent", so_far().rounded()));
        },
        Progress::Json | Progress::None => std::future::pending().await,
    }
}

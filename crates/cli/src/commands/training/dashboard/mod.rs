//! A run as a picture in the terminal. Keys are not read: Ctrl-C is the signal that it always is, and the run saves and stops.

mod draw;
mod state;

use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::{Hide, Show};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{EnterAlternateScreen, LeaveAlternateScreen};
use state::State;
use std::io::{IsTerminal, Stderr};
use std::time::{Duration, Instant};
use zhenjin_train::metrics::{Event, MetricsError, Observer};
use zhenjin_train::plan::Prices;

/// The picture is not drawn more often than that.
const EVERY: Duration = Duration::from_millis(250);

pub(crate) struct Dashboard {
    terminal: Terminal<CrosstermBackend<Stderr>>,
    state: State,
    drawn: Option<Instant>,
}

impl Dashboard {
    /// Whether there is a terminal that can be drawn on.
    pub(crate) fn is_possible() -> bool {
        std::io::stderr().is_terminal() && std::env::var("TERM").is_ok_and(|terminal| terminal != "dumb")
    }

    /// Takes the terminal over until it is dropped, or the program panics.
    pub(crate) fn open(name: String, total_steps: u64, prices: Prices) -> Result<Dashboard, MetricsError> {
        let earlier = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            restore();
            earlier(panic);
        }));
        execute!(std::io::stderr(), EnterAlternateScreen, Hide).map_err(MetricsError::Progress)?;
        let mut terminal =
            Terminal::new(CrosstermBackend::new(std::io::stderr())).map_err(MetricsError::Progress)?;
        // Terminals without a second screen still show what was there.
        terminal.clear().map_err(MetricsError::Progress)?;
        let mut dashboard = Dashboard { terminal, state: State::new(name, total_steps, prices), drawn: None };
        dashboard.draw()?;
        Ok(dashboard)
    }

    fn draw(&mut self) -> Result<(), MetricsError> {
        self.terminal.draw(|frame| draw::draw(frame, &self.state)).map_err(MetricsError::Progress)?;
        self.drawn = Some(Instant::now());
        Ok(())
    }
}

impl Observer for Dashboard {
    fn event(&mut self, event: &Event) -> Result<(), MetricsError> {
        self.state.take(event);
        let is_due = self.drawn.is_none_or(|drawn| drawn.elapsed() >= EVERY);
        if is_due || !matches!(event, Event::Step(_)) { self.draw() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), MetricsError> {
        self.draw()
    }
}

impl Drop for Dashboard {
    fn drop(&mut self) {
        restore();
    }
}

/// Gives the terminal back. If that fails, nobody is there to be told.
fn restore() {
    let _ = execute!(std::io::stderr(), Show, LeaveAlternateScreen);
}

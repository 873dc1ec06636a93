"""The dashboard: the whole program on one screen of the terminal.

What is known at one moment is a `Picture` (`story`); `compose` (`layout`) turns it into lines from its sections
(`panels`) and how they look (`cells`); `Dashboard` (`display`) puts it on the terminal. Import this package only where
a dashboard is shown: it needs rich.
"""

from __future__ import annotations

from bot.dashboard.display import Dashboard

__all__ = ["Dashboard"]

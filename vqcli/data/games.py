"""Games played by random policies: frames of one environment, and the actions taken in it.

boxing   Atari Boxing (Kumar et al. 2018, 2.3), run by ale-py, which includes the game. Each action is one of 18 at
         random; 210 x 160 pixels are reduced to 84 x 84
doom     a maze of rooms in first person: my_way_home of vizdoom, with the textures of Freedoom that come with it. It
         replaces the paper's DeepMind Lab (4.4), which is not available as a package. From a random place, steps
         forward and turns follow each other, each repeated a random number of times, with turns away from walls. The
         middle of 160 x 120 pixels is reduced to 84 x 84

In both an action lasts 4 frames of the game, and the last of these is recorded. Nothing needs a display or a network.
"""

from __future__ import annotations

import importlib.util
import random
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, chdir, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from vqcli.data.recordings import Play
from vqcli.errors import UsageError, VqError, near_matches

SIDE = 84  # pixels of a frame, each way
SKIP = 4  # frames of the game that an action lasts

TURN_DEGREES = 12  # by one action of doom
BLOCKED = 4.0  # units of the map; a step forward is 6 units from rest, up to 30
REPEATS = {"forward": (2, 8), "left": (1, 8), "right": (1, 8)}  # how often an action of doom is repeated, at random
AWAY = (5, 10)  # how often a turn away from a wall is repeated


@dataclass(frozen=True)
class Game:
    """`module` of the package `package` runs it. `length`: frames of an episode at most, if none is given."""

    title: str
    package: str
    module: str
    actions: tuple[str, ...]
    length: int
    start: Callable[[], AbstractContextManager[Play]]


def find(name: str) -> Game:
    """The game of that name. Raises UsageError, also if its package is not installed."""
    if name not in GAMES:
        raise UsageError(f"there is no game {name}", near_matches(name, GAMES))
    game = GAMES[name]
    if importlib.util.find_spec(game.module) is None:
        raise UsageError(f"{name} needs {game.package}, which is not installed", "pip install 'vqcli[games]'")
    return game


@contextmanager
def boxing() -> Iterator[Play]:
    """Atari Boxing: two minutes of the game, some 1,790 actions."""
    from ale_py import ALEInterface, LoggerMode, roms

    ALEInterface.setLoggerMode(LoggerMode.Error)

    def play(seed: int) -> Iterator[tuple[np.ndarray, str]]:
        console = ALEInterface()  # a new one each time: its random state outlives a game
        console.setInt("random_seed", seed)
        console.setInt("frame_skip", SKIP)
        console.setFloat("repeat_action_probability", 0.0)
        console.loadROM(str(roms.get_rom_path("boxing")))
        buttons = {action.name.lower(): action for action in console.getLegalActionSet()}
        rng = random.Random(seed)
        while not console.game_over():
            action = rng.choice(GAMES["boxing"].actions)
            yield _reduced(console.getScreenRGB()), action
            console.act(buttons[action])

    yield play


@contextmanager
def doom() -> Iterator[Play]:
    """The maze of my_way_home, without enemies. An episode ends only at the vest in one of the rooms."""
    import vizdoom

    files = Path(vizdoom.__file__).parent
    game = vizdoom.DoomGame()
    game.set_doom_game_path(str(files / "freedoom2.wad"))
    game.set_doom_scenario_path(str(files / "scenarios" / "my_way_home.wad"))
    game.set_screen_resolution(vizdoom.ScreenResolution.RES_160X120)
    game.set_screen_format(vizdoom.ScreenFormat.RGB24)
    for hidden in ("hud", "weapon", "crosshair", "decals", "particles", "effects_sprites", "messages"):
        getattr(game, f"set_render_{hidden}")(False)
    game.set_window_visible(False)
    game.set_mode(vizdoom.Mode.PLAYER)
    game.set_available_buttons([vizdoom.Button.MOVE_FORWARD, vizdoom.Button.TURN_LEFT_RIGHT_DELTA])
    game.set_available_game_variables([vizdoom.GameVariable.POSITION_X, vizdoom.GameVariable.POSITION_Y])
    game.set_episode_start_time(10)  # tics, by which the player has come to stand
    game.set_episode_timeout(0)
    turn = TURN_DEGREES / SKIP  # of a tic; to the right is positive
    buttons = {"forward": [1.0, 0.0], "left": [0.0, -turn], "right": [0.0, turn]}

    def play(seed: int) -> Iterator[tuple[np.ndarray, str]]:
        game.set_seed(seed)
        game.new_episode()
        rng = random.Random(seed)
        action, left, before = "forward", 0, np.full(2, np.inf)
        while not game.is_episode_finished():
            state = game.get_state()
            place = np.array(state.game_variables)
            blocked = action == "forward" and np.abs(place - before).max() < BLOCKED
            if blocked or not left:
                action = rng.choice(("left", "right")) if action == "forward" else "forward"
                left = rng.randint(*(AWAY if blocked else REPEATS[action]))
            left, before = left - 1, place
            middle = (state.screen_buffer.shape[1] - state.screen_buffer.shape[0]) // 2
            yield _reduced(state.screen_buffer[:, middle:-middle]), action
            game.make_action(buttons[action], SKIP)

    with tempfile.TemporaryDirectory() as folder:
        game.set_doom_config_path(str(Path(folder, "vizdoom.ini")))
        try:
            with chdir(folder):  # it creates a folder _vizdoom in the working directory
                game.init()
            yield play
        except (vizdoom.ViZDoomErrorException, vizdoom.ViZDoomUnexpectedExitException) as error:
            raise VqError(f"vizdoom failed: {' '.join(str(error).split())}", "run again to continue") from None
        finally:
            game.close()


def _reduced(frame: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3] -> [SIDE, SIDE, 3], each pixel the mean of those it covers."""
    return np.asarray(Image.fromarray(np.ascontiguousarray(frame)).resize((SIDE, SIDE), Image.Resampling.BOX))


MOVES = ("up", "right", "left", "down", "upright", "upleft", "downright", "downleft")
GAMES = {
    "boxing": Game(
        title="Atari Boxing",
        package="ale-py",
        module="ale_py",
        actions=("noop", "fire", *MOVES, *(f"{move}fire" for move in MOVES)),
        length=1800,
        start=boxing,
    ),
    "doom": Game(
        title="a maze in first person, in place of DeepMind Lab",
        package="vizdoom",
        module="vizdoom",
        actions=tuple(REPEATS),
        length=500,
        start=doom,
    ),
}

/** The stages of a move as events: states of the device, as the end that moves it hears of them. */
import type { Figures, Progress } from '../../api/migrate/figures.ts';
import type { RelayOptions } from '../../api/migrate/relay.ts';
import { refusalOf } from '../../events/source.ts';
import type { EventStream } from '../../events/stream.ts';
import { formatBytes } from '../quantities.ts';

type Hooks = Required<Pick<RelayOptions, 'onProgress' | 'onStopped'>>;

/**
 * Carry a move out, and emit its stages.
 *
 * @param device  the server at this end, `unix:PATH`
 * @param first  the state that it begins with: PRE_COPY of a device that goes, RESUMING of one that
 *   comes
 * @param work  gets hooks that call `hooks`, too
 */
export async function inStages(
  events: EventStream | null,
  device: string,
  first: 'PRE_COPY' | 'RESUMING',
  hooks: Hooks,
  work: (hooks: Hooks) => Promise<Figures | null>,
): Promise<Figures | null> {
  if (events === null) return await work(hooks);
  using source = events.source(device);
  let state = 'RUNNING';
  const enter = (to: string, failure: object = {}): void => {
    source.emit('migration', { from: state, to, ...failure });
    state = to;
  };
  enter(first);
  try {
    const figures = await work({
      onProgress: (progress) => {
        source.note('info', 'progress', wordsOf(progress));
        hooks.onProgress(progress);
      },
      onStopped: () => {
        if (state === 'PRE_COPY') enter('STOP_COPY');
        hooks.onStopped();
      },
    });
    enter('RUNNING');
    return figures;
  } catch (error) {
    enter('RUNNING', refusalOf(error));
    throw error;
  }
}

function wordsOf({ round, sent, left }: Progress): string {
  return `round ${round}: ${formatBytes(sent)} sent, ${formatBytes(left)} left`;
}

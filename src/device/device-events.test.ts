import { describe, expect, it } from 'vitest';
import type { DeviceEvent } from '../abi/device.ts';
import { DeviceEvents, SuspendRound } from './device-events.ts';

function setup() {
  const failures: unknown[] = [];
  const events = new DeviceEvents((event, error) => failures.push([event.kind, error]));
  const heard: string[] = [];
  return { events, failures, heard, note: (event: DeviceEvent) => void heard.push(event.kind) };
}

/** A round that notes in `over` that it is over. */
function round(over: string[]): SuspendRound {
  return new SuspendRound(() => over.push('over'));
}

describe('kinds', () => {
  it('a listener hears of the kinds that it asked for, once each', () => {
    const { events, heard, note } = setup();
    events.on(note, ['error', 'request', 'error']);
    for (const kind of ['request', 'error', 'resume'] as const) events.emit({ kind });
    expect(heard).toEqual(['request', 'error']);
    expect([events.hears('error'), events.hears('gone')]).toEqual([true, false]);
  });

  it('a kind that does not exist is EINVAL', () => {
    expect(() => setup().events.on(() => {}, ['lunch' as never])).toThrow(/no events 'lunch'/);
  });

  it('a listener that fails is reported with its event, and keeps no other from it', () => {
    const { events, heard, failures, note } = setup();
    events.on(() => {
      throw 'oops';
    }, ['error']);
    events.on(note, ['error']);
    events.emit({ kind: 'error' });
    expect([heard, failures]).toEqual([['error'], [['error', 'oops']]]);
  });
});

describe('S2-42 a suspend', () => {
  it('is over at once when no listener hears of it', () => {
    const over: string[] = [];
    round(over).ask([setup().events, setup().events]);
    expect(over).toEqual(['over']);
  });

  it('waits for the listeners of all files', () => {
    const [one, other, over] = [setup(), setup(), [] as string[]];
    const acknowledges: (() => void)[] = [];
    for (const { events } of [one, other])
      events.on((event) => event.kind === 'suspend' && acknowledges.push(event.acknowledge), ['suspend']);
    const asked = round(over);
    asked.ask([one.events, other.events]);
    acknowledges[0]!();
    acknowledges[0]!();
    expect([asked.missing, over]).toEqual([1, []]);
    acknowledges[1]!();
    expect(over).toEqual(['over']);
  });

  it('does not wait for a listener that is disposed, nor for those of a file that is closed', () => {
    const [one, other, over] = [setup(), setup(), [] as string[]];
    const listening = one.events.on(() => {}, ['suspend']);
    other.events.on(() => {}, ['suspend']);
    round(over).ask([one.events, other.events]);
    listening[Symbol.dispose]();
    expect(over).toEqual([]);
    other.events.close();
    expect(over).toEqual(['over']);
  });

  it('that has ended is not over, whatever is acknowledged', () => {
    const [{ events }, over] = [setup(), [] as string[]];
    let acknowledge = () => {};
    events.on(
      (event) => {
        if (event.kind === 'suspend') ({ acknowledge } = event);
      },
      ['suspend'],
    );
    const asked = round(over);
    asked.ask([events]);
    asked.end();
    acknowledge();
    expect(over).toEqual([]);
  });
});

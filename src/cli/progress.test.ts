import { expect, it } from 'vitest';
import { Progress, progressLine } from './progress.ts';

it('shows bytes, rate and the time left, and fits the terminal', () => {
  expect(progressLine(750e6, 1e9, 3000)).toBe('[==================>     ]  75 %  750.0 MB of 1.00 GB  250 MB/s  ETA 0:01');
  expect(progressLine(1e9, 1e9, 4000)).toBe('[========================] 100 %  1.00 GB of 1.00 GB  250 MB/s  ETA 0:00');
  expect(progressLine(0, 1e9, 0)).toBe('[>                       ]   0 %  0 B of 1.00 GB  0.0 MB/s');
  expect(progressLine(750e6, 1e9, 3000, 60)).toBe(' 75 %  750.0 MB of 1.00 GB  250 MB/s  ETA 0:01');
  expect(progressLine(750e6, 1e9, 3000, 20)).toHaveLength(19);
  expect(progressLine(5e6, null, 1000)).toBe('5.00 MB  5.0 MB/s');
});

function rig(isTTY: boolean, columns = 100) {
  const clock = { now: 1000 };
  const written: string[] = [];
  const output = { isTTY, columns, write: (text: string) => written.push(text) };
  return { clock, written, progress: new Progress(1000, output, () => clock.now) };
}

it('writes over its line ten times a second at most, and takes it away at the end', () => {
  const { clock, written, progress } = rig(true);
  for (let i = 0; i < 100; i++) {
    clock.now += 10;
    progress.update(i * 10);
  }
  expect(written).toHaveLength(10);
  expect(written.every((text) => text.startsWith('\r') && text.endsWith('\u001b[K'))).toBe(true);
  progress[Symbol.dispose]();
  progress[Symbol.dispose]();
  expect(written.slice(10)).toEqual(['\r\u001b[K']);
});

it('takes a terminal that does not know its width for one of 80 columns', () => {
  const { clock, written, progress } = rig(true, 0);
  clock.now += 500;
  progress.update(500);
  expect(written).toEqual(['\r[============>           ]  50 %  500 B of 1.00 kB  0.0 MB/s  ETA 0:01\u001b[K']);
});

it('writes nothing where there is no terminal, and nothing for a copy that took no time', () => {
  const pipe = rig(false);
  pipe.clock.now += 5000;
  pipe.progress.update(10);
  pipe.progress[Symbol.dispose]();
  const short = rig(true);
  short.progress.update(1000);
  short.progress[Symbol.dispose]();
  expect([...pipe.written, ...short.written]).toEqual([]);
});

/** `vfio exec --trace`: a line for each system call of the program that concerns VFIO. */
import { closeSync, writeSync } from 'node:fs';
import { writeEvents } from '../../api/event-file.ts';
import { wordsOf } from '../../events/kinds.ts';
import type { EventStream } from '../../events/stream.ts';
import { openPrivate } from '../../sys/private-file.ts';
import type { Terminal } from '../terminal.ts';

/**
 * Print the calls until disposed, on standard error or into `file`.
 *
 * @throws VfioError the errors of `writeEvents`
 */
export function traceCalls(events: EventStream, file: string | undefined, terminal: Terminal): Disposable {
  if (file !== undefined) return writeEvents(events, file, { kinds: ['call'], format: 'text' });
  const calls = events.read({ kinds: ['call'] });
  const print = () => {
    for (const call of calls.take()) terminal.err(wordsOf(call));
  };
  void (async () => {
    for await (const call of calls) terminal.err(wordsOf(call));
  })();
  return {
    [Symbol.dispose]: () => {
      print();
      calls[Symbol.dispose]();
    },
  };
}

/**
 * Where the lines of a trace go that another process makes: `file`, or standard error.
 *
 * @throws VfioError the errors of `openPrivate`
 */
export function linesTo(file: string | undefined, terminal: Terminal): { readonly print: (line: string) => void } & Disposable {
  if (file === undefined) return { print: terminal.err, [Symbol.dispose]: () => {} };
  const fd = openPrivate(file);
  return { print: (line) => void writeSync(fd, `${line}\n`), [Symbol.dispose]: () => closeSync(fd) };
}

import { MessageChannel } from 'node:worker_threads';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { VfioError, type VfioErrorOptions } from '../../base/errno.ts';
import { SystemError, systemError } from '../../sys/system-error.ts';
import { type Handlers, ThreadPort } from './thread-port.ts';

const unused: Handlers = { asked: {}, told: {} };
let channel: MessageChannel;
beforeEach(() => {
  channel = new MessageChannel();
});
afterEach(() => channel.port1.close());

/** A port whose other side answers as `handlers` says. */
function asking(handlers: Partial<Handlers>): ThreadPort {
  new ThreadPort(channel.port2, { ...unused, ...handlers });
  return new ThreadPort(channel.port1, unused);
}

/** The error of an other side that throws `error`. */
async function travelled(error: unknown): Promise<Error> {
  const fail = () => {
    throw error;
  };
  return await asking({ asked: { fail } })
    .ask('fail', null)
    .then(
      () => expect.unreachable('it fails'),
      (reason: Error) => reason,
    );
}

describe('an error travels', () => {
  const culprit = { bdf: '0000:00:04.0', driver: 'nvme', why: 'It is busy.', fix: 'Unbind it.' };
  it.each<[string, string, VfioErrorOptions]>([
    ['alone', 'group 12 is open', {}],
    ['with its fix', 'group 12 is open', { fix: 'Close it.' }],
    ['with its culprits', 'group 12 is not viable', { culprits: [culprit], fix: 'Bind it.' }],
    ['with details', 'the declaration has faults', { details: ['bar0: no size', 'bar1: no size'] }],
    ['with a colon at its end', 'a message that ends so:', {}],
    ['with all', 'a: b', { details: ['c: d'], culprits: [culprit], fix: 'e' }],
  ])('%s', async (_, message, options) => {
    const error = new VfioError('EBUSY', message, options);
    const other = await travelled(error);
    expect(other).toBeInstanceOf(VfioError);
    expect((other as VfioError).explain()).toBe(error.explain());
    const { code, errno, fix, culprits } = error;
    expect(other).toMatchObject({ code, errno, culprits, message: error.message });
    expect((other as VfioError).fix).toBe(fix);
  });

  it.each([
    ['the operating system', systemError('ENOENT', 'opening disk.img'), true],
    ['the caller', new VfioError('ENOENT', 'no such model'), false],
  ])('of %s as one', async (_, error, isSystem) => {
    expect((await travelled(error)) instanceof SystemError).toBe(isSystem);
  });

  it('of our own with its stack and no errno', async () => {
    const error = new TypeError('x is not a function');
    const other = await travelled(error);
    expect(other).not.toHaveProperty('code');
    expect([other.message, other.stack]).toEqual([error.message, error.stack]);
  });

  it('that is none as its text', async () => {
    expect((await travelled('a string')).message).toBe('a string');
  });
});

describe('the two sides', () => {
  it('answer in any order, each to its own question', async () => {
    const later: (() => void)[] = [];
    const port = asking({
      asked: {
        slow: (value: string) => new Promise((resolve) => later.push(() => resolve(value))),
        fast: (value: string) => value,
      },
    });
    const slow = port.ask('slow', 'a');
    expect(await port.ask('fast', 'b')).toBe('b');
    later[0]!();
    expect(await slow).toBe('a');
  });

  it('hear progress before the answer', async () => {
    const heard: string[] = [];
    const port = asking({
      asked: {
        async work(_value: never, progress) {
          await progress('half');
          await progress('most');
          return 'done';
        },
      },
    });
    heard.push(await port.ask<string>('work', null, (text) => heard.push(text)));
    expect(heard).toEqual(['half', 'most', 'done']);
  });

  it('fail for an answer that no thread can be sent', async () => {
    await expect(asking({ asked: { bad: () => () => {} } }).ask('bad', null)).rejects.toThrow(/could not be cloned/);
  });

  it('fail for a question that cannot be sent, and go on', async () => {
    const port = asking({ asked: { echo: (value: string) => value } });
    await expect(port.ask('echo', () => {})).rejects.toThrow(/could not be cloned/);
    expect(await port.ask('echo', 'x')).toBe('x');
  });

  it('leave notices that come before a question in their order', async () => {
    const heard: string[] = [];
    const port = asking({ told: { note: (text: string) => heard.push(text) }, asked: { heard: () => heard } });
    port.tell('note', 'a');
    port.tell('note', 'b');
    expect(await port.ask('heard', null)).toEqual(['a', 'b']);
  });
});

describe('the end of the other side', () => {
  it('fails all questions, now and later, with the first reason', async () => {
    const port = asking({ asked: { never: () => new Promise(() => {}) } });
    const waiting = port.ask('never', null);
    const gone = new VfioError('EIO', 'the thread has ended');
    port.end(gone);
    port.end(new VfioError('EIO', 'a second reason'));
    await expect(waiting).rejects.toBe(gone);
    await expect(port.ask('never', null)).rejects.toBe(gone);
    port.tell('note', 'is not sent');
  });
});

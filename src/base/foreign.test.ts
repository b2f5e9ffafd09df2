import { describe, expect, it } from 'vitest';
import { turn } from '../../tests/kit/event-loop.ts';
import { unhandledRejections } from '../../tests/kit/unhandled-rejections.ts';
import { callForeign, isThenable, settle, textOf } from './foreign.ts';
import { WatchedPromise } from './watched-promise.ts';

const unhandled = unhandledRejections();

const badText = {
  toString() {
    throw new Error('no text');
  },
};

describe('callForeign', () => {
  it.each<[string, () => unknown, string]>([
    [
      'throws',
      () => {
        throw new Error('thrown');
      },
      'thrown',
    ],
    [
      'throws null',
      () => {
        throw null;
      },
      'null',
    ],
    ['rejects', () => Promise.reject(new Error('rejected')), 'rejected'],
    ['rejects with an object without prototype', () => Promise.reject(Object.create(null)), 'has no text'],
    [
      'is a thenable that throws in then',
      () => ({
        // biome-ignore lint/suspicious/noThenProperty: that is the point
        then() {
          throw new Error('in then');
        },
      }),
      'in then',
    ],
  ])('foreign code that %s is reported once, and its failure goes nowhere else', async (_, call, text) => {
    const failed: string[] = [];
    expect(callForeign('it', call, (what, error) => failed.push(`${what}: ${textOf(error)}`))).toBeUndefined();
    await turn();
    expect([failed.length, unhandled]).toEqual([1, []]);
    expect(failed[0]).toContain(text);
  });

  it('gives back a result that is no promise, and undefined in place of a promise', () => {
    expect(
      callForeign(
        'it',
        () => 7,
        () => expect.unreachable(),
      ),
    ).toBe(7);
    expect(
      callForeign(
        'it',
        async () => 7,
        () => expect.unreachable(),
      ),
    ).toBeUndefined();
  });

  it('a getter of `then` that throws makes no promise', () => {
    const odd = Object.defineProperty({}, 'then', {
      get() {
        throw new Error('looked at');
      },
    });
    expect([isThenable(odd), settle('it', odd, () => expect.unreachable())]).toEqual([false, false]);
  });
});

it.each([[badText], [Object.create(null)], [Symbol('s')], [undefined]])('textOf %# never throws', (error) => {
  expect(typeof textOf(error)).toBe('string');
});

describe('WatchedPromise', () => {
  const rejected = () => Promise.reject(new Error('no'));
  const watched = () => {
    const forgotten: string[] = [];
    return { forgotten, promise: WatchedPromise.of<void>(rejected(), (error) => void forgotten.push((error as Error).message)) };
  };

  it('a rejection of a promise that is not looked at is reported', async () => {
    const { forgotten } = watched();
    await turn();
    expect([forgotten, unhandled]).toEqual([['no'], []]);
  });

  it('an awaited promise rejects at its await, and is not reported', async () => {
    const { forgotten, promise } = watched();
    await expect((async () => await promise)()).rejects.toThrow('no');
    await turn();
    expect([forgotten, unhandled]).toEqual([[], []]);
  });

  it.each<[string, (promise: Promise<void>) => unknown]>([
    ['then', (p) => p.then(() => {})],
    ['finally', (p) => p.finally(() => {})],
    ['a chain', (p) => p.then(() => {}).then(() => {})],
  ])('a rejection that passes through %s is reported once when it is not looked at', async (_, use) => {
    const { forgotten, promise } = watched();
    use(promise);
    await turn();
    expect([forgotten, unhandled]).toEqual([['no'], []]);
  });

  it('a handler that throws is reported too, and a catch silences the report', async () => {
    const { forgotten, promise } = watched();
    promise.catch(() => {
      throw new Error('in catch');
    });
    promise.catch(() => {});
    await turn();
    expect([forgotten, unhandled]).toEqual([['in catch'], []]);
  });
});

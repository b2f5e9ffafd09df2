import { describe, expect, it } from 'vitest';
import { checkIndex, checkU64 } from './check.ts';
import { Cleanup } from './cleanup.ts';
import { ManualClock } from './clock.ts';
import { Counted } from './counted.ts';
import { errnoName, errnoOf, VfioError } from './errno.ts';
import { struct } from './struct.ts';

describe('VfioError', () => {
  it('S2-50 is negative inside and carries its name, as Node system errors do', () => {
    const error = new VfioError('EBUSY', 'group 12 is still open');
    expect([error.code, error.errno, errnoName(error.errno), errnoOf(error)]).toEqual(['EBUSY', -16, 'EBUSY', 'EBUSY']);
  });

  it('an error without a code answers EIO', () => {
    expect(errnoOf(new TypeError('x is undefined'))).toBe('EIO');
  });

  it('describe() names each culprit and its remedy', () => {
    const error = new VfioError('EPERM', 'group 3 is not viable', {
      culprits: [{ bdf: '0000:00:02.1', driver: 'snd', why: 'bound to a native driver', fix: 'unbind it' }],
      fix: 'bind the whole group',
    });
    expect(error.explain()).toBe(
      'EPERM: group 3 is not viable\n  0000:00:02.1 (snd): bound to a native driver\n    fix: unbind it\n  fix: bind the whole group',
    );
  });
});

describe('check', () => {
  it('S2-21 refuses what is not an integer in range, naming the argument', () => {
    for (const bad of [Number.NaN, -1, 1.5, 2 ** 53, Number.POSITIVE_INFINITY, 10]) {
      expect(() => checkIndex(bad, 9, 'region index')).toThrowError(/region index/);
    }
    expect(checkIndex(9, 9, 'region index')).toBe(9);
  });

  it('S2-21 refuses bigints outside 64 bits', () => {
    expect(() => checkU64(-1n, 'iova')).toThrowError(VfioError);
    expect(() => checkU64(2n ** 64n, 'iova')).toThrowError(VfioError);
    expect(checkU64(2n ** 64n - 1n, 'iova')).toBe(2n ** 64n - 1n);
  });
});

describe('Cleanup', () => {
  it('runs newest first, once', () => {
    const seen: number[] = [];
    const undo = new Cleanup();
    undo.defer(() => seen.push(1));
    undo.defer(() => seen.push(2));
    undo[Symbol.dispose]();
    undo[Symbol.dispose]();
    expect(seen).toEqual([2, 1]);
  });

  it('runs every step even when one throws, and throws the first error', () => {
    const seen: number[] = [];
    const undo = new Cleanup();
    undo.defer(() => seen.push(1));
    undo.defer(() => {
      throw new Error('two');
    });
    undo.defer(() => {
      throw new Error('three');
    });
    expect(() => undo[Symbol.dispose]()).toThrowError('three');
    expect(seen).toEqual([1]);
  });

  it('move hands the steps over', () => {
    let runs = 0;
    const undo = new Cleanup();
    undo.defer(() => runs++);
    const moved = undo.move();
    undo[Symbol.dispose]();
    expect(runs).toBe(0);
    moved[Symbol.dispose]();
    expect(runs).toBe(1);
  });
});

describe('Counted', () => {
  class Thing extends Counted {
    releases = 0;
    constructor() {
      super('the thing');
    }
    protected override released(): void {
      this.releases++;
    }
  }

  it('is released once, after the put of its creator and of every keeper, in any order', () => {
    const thing = new Thing();
    thing.get();
    thing[Symbol.dispose]();
    thing[Symbol.dispose]();
    expect([thing.references, thing.releases]).toEqual([1, 0]);
    thing.put();
    expect([thing.references, thing.releases]).toEqual([0, 1]);
  });

  it('get after the release is EBADF, and a put too many is a bug', () => {
    const thing = new Thing();
    thing.put();
    expect(() => thing.get()).toThrowError(expect.objectContaining({ code: 'EBADF', message: 'the thing is closed' }));
    expect(() => thing.put()).toThrowError(/put of the thing/);
  });
});

describe('ManualClock', () => {
  it('runs timers in order of time, those that a callback starts too, and no cancelled one', () => {
    const clock = new ManualClock();
    const seen: string[] = [];
    clock.after(20, () => seen.push(`b${clock.nowNs()}`));
    clock.after(10, () => {
      seen.push(`a${clock.nowNs()}`);
      clock.after(5, () => seen.push(`c${clock.nowNs()}`));
    });
    clock.after(12, () => seen.push('never'))[Symbol.dispose]();
    clock.advance(30);
    expect(seen).toEqual(['a10000000', 'c15000000', 'b20000000']);
    expect([clock.nowNs(), clock.pendingTimers]).toEqual([30e6, 0]);
  });
});

describe('struct', () => {
  const Status = struct('status', 16, { argsz: 'u32', flags: 'u32', size: 'u64' });

  it('reads and writes fields at their offsets, little-endian', () => {
    const view = new DataView(new ArrayBuffer(20));
    Status.encode(view, 4, { argsz: 16, size: 0x1122334455667788n });
    expect(Status.decode(view, 4)).toEqual({ argsz: 16, flags: 0, size: 0x1122334455667788n });
    expect([view.getUint8(4), view.getUint8(12), Status.structSize, Status.size.offset]).toEqual([16, 0x88, 16, 8]);
  });

  it('refuses at load a declaration with a hole, or with a size that differs from the stated one', () => {
    expect(() => struct('holed', 16, { a: 'u32', b: 'u64' })).toThrowError(/holed\.b: offset 4/);
    expect(() => struct('short', 12, { a: 'u32', b: 'u32' })).toThrowError(/take 8 bytes, declared 12/);
    expect(() => struct('named', 4, { structSize: 'u32' })).toThrowError(/structSize: this name is taken/);
  });
});

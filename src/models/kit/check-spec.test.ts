/** The errors of declarations that cannot be: JavaScript has no compiler that would find them. */
import { describe, expect, it } from 'vitest';
import { VfioError } from '../../base/errno.ts';
import { u32 } from '../../base/registers.ts';
import { bar, memory } from './bar.ts';
import { configRegisters } from './config-registers.ts';
import { device } from './device.ts';
import { TestHost } from './test-host.ts';

// biome-ignore lint/suspicious/noExplicitAny: JavaScript
type Any = any;
const {
  device: make,
  bar: barOf,
  memory: memoryOf,
  u32: wordOf,
  config: configOf,
} = {
  device,
  bar,
  memory,
  u32,
  config: configRegisters,
} as Record<string, Any>;
const id = '1234:0001';
const bar0 = bar('4K', { go: u32(0), text: u32(8, 'ro') }, { text: { reset: 1 } });

function failure(act: () => unknown): VfioError {
  try {
    act();
  } catch (error) {
    if (error instanceof VfioError) return error;
    throw error;
  }
  throw new Error('it did not fail');
}

describe('device()', () => {
  it.each<[string, Any, string, string?]>([
    ['no declaration', undefined, 'device() is undefined; it takes an object'],
    ['no id', {}, "device() lacks 'id'"],
    ['an id that is none', { id: 5 }, 'id of device() is 5; it takes text'],
    [
      'a class that has no name',
      { id, class: 'uart' },
      "class of device() is 'uart', which is no class of devices",
      'Give one of unclassified',
    ],
    ['a class of 25 bits', { id, class: 0x100_0000 }, 'class of device() is 16777216, which is no class of devices'],
    ['a pin that is none', { id, intx: 'E' }, "intx of device() is 'E'; it takes 'A', 'B', 'C' or 'D'"],
    ['a pin by number', { id, intx: 1 }, "intx of device() is 1; it takes 'A', 'B', 'C' or 'D'"],
    ['a misspelt key', { id, msxi: 2 }, "device() has no 'msxi'", "Did you mean 'msi'?"],
    ['a key that nothing is like', { id, interrupts: 2 }, "device() has no 'interrupts'", 'It has id, subsystem'],
    ['a BAR beside `bars`', { id, bar0 }, "device() has no 'bar0'", "Did you mean 'bars'?"],
    [
      'a misspelt `serial`',
      { id, bars: { bar0 }, on: { 'bar0.go': { seriall() {} } } },
      "on of device()['bar0.go'] has no 'seriall'",
      "Did you mean 'serial'?",
    ],
    ['a BAR 6', { id, bars: { bar6: bar0 } }, "bars of device() has no 'bar6'", "Did you mean 'bar0'?"],
    [
      'registers of config space that are none',
      { id, config: { a: u32(0x60) } },
      'config of device() is an object; it takes what configRegisters({ … }) gives',
    ],
    ['an output that is no function', { id, outputs: { transmit: 1 } }, "outputs of device()['transmit'] is 1; it takes a function"],
    ['an input that is no function', { id, inputs: { receive: 1 } }, "inputs of device()['receive'] is 1; it takes a function"],
    [
      'a BAR that is none',
      { id, bars: { bar0: '4K' } },
      "bar0 of bars of device() is '4K'; it takes what bar('4K', { … }) or memory('1M') gives",
    ],
    ['MSI as text', { id, msi: '1' }, "msi of device() is '1'; it takes an integer from 1 to 32"],
    ['MSI without vectors', { id, msi: { is64: true } }, "msi of device() lacks 'vectors'"],
    ['MSI-X with a misspelt key', { id, msix: { vectors: 2, table: 0 } }, "msix of device() has no 'table'"],
    ['too many MSI-X vectors', { id, msix: 2049 }, 'msix of device() is 2049; it takes an integer from 1 to 2048'],
    ['a revision of nine bits', { id, revision: 256 }, 'revision of device() is 256; it takes an integer from 0 to 255'],
    ['pcie as text', { id, pcie: 'no' }, "pcie of device() is 'no'; it takes true or false"],
    ['busMaster as a flag', { id, busMaster: true }, "busMaster of device() is true; it takes 'always' alone"],
    ['a ROM that is no bytes', { id, rom: [1, 2] }, 'rom of device() is an array; it takes a Uint8Array'],
    ['capabilities that are none', { id, capabilities: ['vpd'] }, "capabilities of device()[0] is 'vpd'; it takes an object"],
    ['state that is no function', { id, state: {} }, 'state of device() is an object; it takes a function'],
    ['a handler that is no function', { id, bars: { bar0 }, on: { 'bar0.go': 1 } }, "on of device()['bar0.go'] is 1; it takes a function"],
    [
      'a handler of no register',
      { id, bars: { bar0 }, on: { 'bar0.og': () => {} } },
      '1234:0001: there is no register bar0.og',
      "Did you mean 'bar0.go'?",
    ],
    ['migration that is neither', { id, migration: false }, 'migration of device() is false; it takes true alone'],
    ['SR-IOV whose VFs are no model', { id, sriov: { totalVfs: 4, vf: { id } } }, "vf of sriov of device() lacks 'declaration'"],
    ['SR-IOV without VFs', { id, sriov: { totalVfs: 4 } }, "sriov of device() lacks 'vf'"],
  ])('%s', (_, spec, message, fix = '') => {
    const error = failure(() => make(spec));
    expect([error.code, error.message, error.fix ?? '']).toEqual([
      'EINVAL',
      expect.stringContaining(message),
      expect.stringContaining(fix),
    ]);
  });

  it('takes a class by name, by number and by digits', () => {
    const codes = ['ethernet', 0x020000, '020000', '0x020000'].map((each) => make({ id, class: each }).declaration.classCode);
    expect(codes).toEqual([0x020000, 0x020000, 0x020000, 0x020000]);
  });

  it('takes what is undefined for left out', () => {
    expect(make({ id, intx: undefined, msi: undefined }).declaration.interruptPin).toBe(0);
  });
});

describe('bar(), memory(), configRegisters() and registers', () => {
  it.each<[string, () => unknown, string]>([
    ['a register that is none', () => barOf('4K', { go: 4 }), "bar(): 'go' is no register"],
    ['an option that is none', () => barOf('4K', {}, {}, { prefetch: true }), "options of bar() has no 'prefetch'"],
    [
      'holes of another kind',
      () => barOf('4K', {}, {}, { holes: 'one' }),
      "holes of options of bar() is 'one'; it takes 'zeros' or 'ones'",
    ],
    [
      'a type that is none',
      () => memoryOf('1M', { type: 'mem' }),
      "type of options of memory() is 'mem'; it takes 'mem32', 'mem64' or 'io'",
    ],
    ['a size that is none', () => barOf(null, {}), 'BAR size null: give a power of two'],
    ['an offset that is none', () => wordOf('0'), 'u32(0): the offset must be a multiple of 4'],
    ['a field that is none', () => wordOf(0, { run: 1 }), 'u32(0x0).run is no field'],
    ['an access that is none', () => wordOf(0, { run: { msb: 0, lsb: 0, access: 'wo', reset: 0 } }), "u32(0x0).run: access is 'wo'"],
    ['a value that is none', () => barOf('4K', { a: u32(0) }, { a: { reset: '1' } }), 'register a: 1 does not fit in 32 bits'],
    [
      'a width that is none',
      () => barOf('4K', { a: u32(0) }, { a: { widths: [3] } }),
      'widths of the behaviour of register a[0] is 3; it takes 1, 2, 4 or 8',
    ],
    [
      'a hook that is none',
      () => barOf('4K', { a: u32(0) }, { a: { store: 5 } }),
      'store of the behaviour of register a is 5; it takes a function',
    ],
    ['behaviour of no register', () => barOf('4K', { length: u32(0) }, { lenght: {} }), "there is no register 'lenght' for its behaviour"],
    ['behaviour that is none', () => barOf('4K', { a: u32(0) }, { a: { ro: 1 } }), "the behaviour of register a has no 'ro'"],
    ['a register of 64 bits in config space', () => configOf({ a: { ...u32(0x40), bytes: 8 } }), 'has at most 32 bits'],
    [
      'options in place of behaviour',
      () => barOf('4K', { a: u32(0) }, { holes: 'ones' }),
      "the behaviour of registers['holes'] is 'ones'; it takes an object",
    ],
    ['an access of a register that is none', () => wordOf(0, 'r'), "u32(0x0) is given 'r'; it takes 'rw', 'ro', 'wo', 'w1c', or fields"],
  ])('%s', (_, act, message) => {
    expect(failure(act)).toMatchObject({ code: 'EINVAL', message: expect.stringContaining(message) });
  });
});

describe("a handler's device", () => {
  it('has no register that was not declared, and takes no value that is no integer; a counter wraps', () => {
    const seen: string[] = [];
    const model = make({
      id,
      bars: { bar0 },
      on: {
        'bar0.go': ({ bar0: b }: Any) => {
          for (const act of [() => b.tetx, () => (b.tetx = 1), () => (b.text = 1.5), () => (b.text = undefined)])
            seen.push(failure(act).message);
          b.text = 0xffff_ffff;
          b.text += 2;
        },
      },
    }).create(new TestHost());
    model.write(0, 0, 4, 1);
    expect(seen).toEqual([
      "there is no register 'tetx'",
      "there is no register 'tetx'",
      'text is given 1.5; it takes an integer of 32 bits',
      'text is given undefined; it takes an integer of 32 bits',
    ]);
    expect(model.read(0, 8, 4)).toBe(1);
  });
});

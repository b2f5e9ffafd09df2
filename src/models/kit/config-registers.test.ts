/** Registers of a device's own in config space, as its model and its drivers have them. */
import { expect, expectTypeOf, it } from 'vitest';
import { bit } from '../../base/bit-fields.ts';
import { registers, u8, u16, u32 } from '../../base/registers.ts';
import { vendorSpecific } from '../../pci/capabilities.ts';
import { bar } from './bar.ts';
import { configRegisters } from './config-registers.ts';
import { device } from './device.ts';
import { TestHost } from './test-host.ts';

const Own = registers({
  control: u16(0x60, { go: bit(0), done: bit(1, 'ro'), error: bit(15, 'w1c') }),
  lock: u8(0x68),
  data: u32(0x6c),
});

function make(seen: unknown[] = []) {
  return device({
    id: '1234:0001',
    pcie: false,
    bars: { bar0: bar('4K', { window: u32(0) }) },
    config: configRegisters(Own, { lock: { reset: 7, writable: 0x0f }, control: { reset: 0x8000 } }),
    state: () => ({ reads: 0 }),
    read: { 'config.data': (dev, stored) => stored + ++dev.state.reads },
    on: {
      'config.control'(dev, written, before) {
        expectTypeOf(written).toEqualTypeOf<number>();
        expectTypeOf(dev.config.control.go).toEqualTypeOf<number>();
        expectTypeOf(dev.config.lock).toEqualTypeOf<number>();
        seen.push(['control', written, before]);
        dev.config.control.done = 1;
      },
      'config.lock'(dev, written, before) {
        seen.push(['lock', written, before]);
        dev.config.lock = before;
      },
      'config.data': (dev, written) => dev.writeBar(0, 0, 4, written),
      'bar0.window': (dev, value) => void seen.push(['window', value, dev.readBar(0, 0, 4)]),
      config: (dev, offset, width) => void seen.push([offset, width, dev.config.read16(0)]),
    },
  });
}

it('writes reach their handlers, with the value written and the value before; reads show the model’s value', () => {
  const host = new TestHost();
  const seen: unknown[] = [];
  host.plug(make(seen));
  expect([host.config.read(0x60, 2), host.config.read(0x68, 1)]).toEqual([0x8000, 7]);
  host.config.write(0x60, 2, 0x8003);
  expect(host.config.read(0x60, 2)).toBe(0x0003);
  host.config.write(0x68, 1, 0xff);
  expect(host.config.read(0x68, 4)).toBe(7);
  expect(seen).toEqual([
    ['control', 0x8003, 0x8000],
    [0x60, 2, 0x1234],
    ['lock', 0xff, 7],
    [0x68, 1, 0x1234],
  ]);
});

it('parts of a register are written and read as parts; bytes beside registers are as before', () => {
  const host = new TestHost();
  const seen: unknown[] = [];
  host.plug(make(seen));
  host.config.write(0x60, 4, 0xffff_0001);
  expect(host.config.read(0x60, 4)).toBe(0x0000_8003);
  host.config.write(0x61, 1, 0x80);
  expect(host.config.read(0x60, 2)).toBe(0x0003);
  expect(seen.filter((each) => (each as unknown[])[0] === 'control')).toEqual([
    ['control', 0x0001, 0x8000],
    ['control', 0x8003, 0x8003],
  ]);
});

it('each read asks the model, and a write may reach a BAR', () => {
  const host = new TestHost();
  const seen: unknown[] = [];
  host.plug(make(seen));
  const first = host.config.read(0x6c, 4);
  expect(host.config.read(0x6c, 4)).toBe(first + 1);
  host.config.write(0x6c, 4, 0x55);
  expect(seen).toContainEqual(['window', 0x55, 0x55]);
});

it('a reset of the function resets them; a reset of the device’s own leaves them', () => {
  const host = new TestHost();
  const instance = host.plug(
    device({
      id: '1234:0001',
      bars: { bar0: bar('4K', { reset: u32(0) }) },
      config: configRegisters(Own),
      on: { 'bar0.reset': (dev) => dev.reset() },
    }),
  );
  host.config.write(0x68, 1, 9);
  host.bar(0).write32(0, 1);
  expect(host.config.read(0x68, 1)).toBe(9);
  host.reset();
  expect(host.config.read(0x68, 1)).toBe(0);
  expect(instance.waiting).toEqual({ handlers: 0, clock: 0 });
});

it('capabilities without a fixed place leave the bytes of registers free', () => {
  const config = configRegisters({ lock: u8(0x60, 'rw'), key: u8(0x7c) });
  const host = new TestHost();
  host.plug(device({ id: '1234:0001', msix: 2, config }));
  const chain: number[] = [];
  for (let at = host.config.read(0x34, 1); at !== 0; at = host.config.read(at + 1, 1)) chain.push(at);
  expect(chain).toEqual([0x40, 0x80]);
  host.config.write(0x60, 1, 0x5a);
  expect([host.config.read(0x60, 4), host.config.read(0x7c, 4)]).toEqual([0x5a, 0]);
});

it('may lie in the body of a capability, not in a header', () => {
  const windowed = (at: number) =>
    device({
      id: '1234:0001',
      pcie: false,
      capabilities: [vendorSpecific(new Uint8Array(13), { at: 0x60 })],
      config: configRegisters({ data: u8(at) }),
    });
  const host = new TestHost();
  host.plug(windowed(0x64));
  host.config.write(0x64, 1, 0x77);
  expect([host.config.read(0x60, 1), host.config.read(0x64, 1)]).toEqual([0x09, 0x77]);
  expect(() => new TestHost().plug(windowed(0x61))).toThrow('lies in the header of Vendor Specific');
  expect(() => new TestHost().plug(windowed(0x3c))).toThrow('must be aligned, from 0x40');
});

it('go along when the device is moved', () => {
  const movable = device({ id: '1234:0001', config: configRegisters(Own), migration: true });
  const [from, to] = [new TestHost(), new TestHost()];
  const [source, target] = [from.plug(movable), to.plug(movable)];
  from.config.write(0x68, 1, 0x21);
  source.migration!.stop();
  target.migration!.stop();
  target.migration!.load(source.migration!.save(), 1);
  expect(to.config.read(0x68, 1)).toBe(0x21);
});

it('without any, config space reads as declared', () => {
  const host = new TestHost();
  host.plug(device({ id: '1234:0001', on: { start: (dev) => void dev.log.log('info', `${dev.config.read16(0).toString(16)}`) } }));
  expect(host.logged[0]!.message).toBe('1234:0001: 1234');
});

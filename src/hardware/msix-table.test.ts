import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { InterruptRig } from '../../tests/kit/interrupt-rig.ts';
import { Command, Config } from '../abi/pci.ts';
import { msi, msix } from '../pci/capabilities.ts';
import { ConfigSpace } from '../pci/config-space.ts';
import { MsixTable } from './msix-table.ts';

function table(vectors: number, tableOffset: number, pbaOffset?: number, pbaBar?: number): MsixTable {
  const config = new ConfigSpace({
    name: 'test',
    vendor: 1,
    device: 1,
    classCode: 0,
    bars: [
      { index: 0, size: 0x10000, type: 'mem32' },
      { index: 1, size: 0x10000, type: 'mem32' },
    ],
    capabilities: [
      msix({
        vectors,
        tableBar: 1,
        tableOffset,
        ...(pbaOffset === undefined ? {} : { pbaOffset }),
        ...(pbaBar === undefined ? {} : { pbaBar }),
      }),
    ],
  });
  config.write(Config.COMMAND, 2, Command.MEMORY);
  return MsixTable.of(config)!;
}

describe('S2-34 what is hidden of the MSI-X table', () => {
  it('S2-34 is byte-exact: 16 bytes per vector, not a page', () => {
    const t = table(3, 0x1008, 0x4000);
    expect([t.start, t.end]).toEqual([0x1008, 0x1038]);
    expect(t.contains(1, 0x1007, 1)).toBe(false);
    expect(t.contains(1, 0x1008, 1)).toBe(true);
    expect(t.contains(1, 0x1037, 1)).toBe(true);
    expect(t.contains(1, 0x1038, 1)).toBe(false);
    expect(t.contains(1, 0x1004, 4)).toBe(false);
    expect(t.contains(1, 0x1004, 8)).toBe(true);
    expect(t.contains(0, 0x1008, 4)).toBe(false);
    expect(t.contains(1, 0x1008, 0)).toBe(false);
  });

  it('S2-34 agrees with a check of each single byte', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 2048 }),
        fc.integer({ min: 0, max: 0x7000 }),
        fc.integer({ min: 0, max: 0x10000 }),
        fc.integer({ min: 0, max: 64 }),
        (vectors, place, offset, size) => {
          const t = table(vectors, place & ~7, 0x8000 + ((vectors * 16) & ~7), 0);
          let touched = false;
          for (let byte = offset; byte < offset + size; byte++) touched ||= byte >= (place & ~7) && byte < (place & ~7) + vectors * 16;
          expect(t.contains(1, offset, size)).toBe(touched);
        },
      ),
      { numRuns: 300 },
    );
  });
});

describe('S2-33 the table as the device holds it, for those who mapped it', () => {
  it('S2-33 entries start zero and masked, take address, data and mask, and keep reserved bits zero', () => {
    const t = table(2, 0x1000);
    expect(t.read(1, 0x100c, 4)).toBe(1);
    t.write(1, 0x1010, 4, 0xffff_ffff);
    t.write(1, 0x1014, 4, 0x1234_5678);
    t.write(1, 0x1018, 4, 0xffff_ffff);
    t.write(1, 0x101c, 4, 0xffff_fffe);
    expect([0x1010, 0x1014, 0x1018, 0x101c].map((at) => t.read(1, at, 4))).toEqual([0xffff_fffc, 0x1234_5678, 0xffff_ffff, 0]);
    expect(t.read(1, 0x1014, 1)).toBe(0x78);
    expect(t.read(1, 0x1016, 2)).toBe(0x1234);
    t.write(1, 0x1015, 1, 0xab);
    t.write(1, 0x1016, 2, 0xcdef);
    expect(t.read(1, 0x1014, 4)).toBe(0xcdef_ab78);
  });

  it('S2-33 pending bits can be read, not written', () => {
    const t = table(70, 0x1000, 0x2000, 0);
    expect([t.pbaStart, t.pbaEnd]).toEqual([0x2000, 0x2010]);
    t.setPending(33);
    t.setPending(33);
    t.setPending(69);
    expect(t.pendingCount).toBe(2);
    expect([0x2000, 0x2004, 0x2008].map((at) => t.read(0, at, 4))).toEqual([0, 2, 1 << 5]);
    t.write(0, 0x2004, 4, 0);
    expect(t.read(0, 0x2004, 4)).toBe(2);
    t.clearPending(33);
    t.clearPending(33);
    expect(t.pendingCount).toBe(1);
  });

  it('S2-33 reads all ones and drops writes elsewhere', () => {
    const t = table(1, 0x1000);
    t.write(1, 0x2000, 4, 0);
    expect(t.read(1, 0x2000, 4)).toBe(0xffff_ffff);
    expect(t.read(0, 0x1000, 2)).toBe(0xffff);
  });

  it('S2-33 a function without the capability has no table', () => {
    expect(MsixTable.of(new ConfigSpace({ name: 'x', vendor: 1, device: 1, classCode: 0, capabilities: [msi()] }))).toBeNull();
  });
});

describe('S2-36 interrupt remapping', () => {
  it('S2-36 an entry matches only while it holds the message that was routed', () => {
    const t = table(2, 0x1000);
    expect(t.matches(0)).toBe(false);
    t.route(0, 0xfee0_0010, 0, 0x42);
    expect(t.matches(0)).toBe(false);
    t.program(0);
    expect(t.matches(0)).toBe(true);
    t.write(1, 0x1008, 4, 0x43);
    expect(t.matches(0)).toBe(false);
    t.program(0);
    t.unroute(0);
    expect(t.matches(0)).toBe(false);
    expect(t.matches(1)).toBe(false);
  });

  it('B.9 memory decode: the host’s own accesses to the table are lost while decoding is off', () => {
    const rig = new InterruptRig();
    rig.config.write(Config.COMMAND, 2, 0);
    rig.msix!.route(0, 0xfee0_0010, 0, 0);
    rig.msix!.program(0);
    rig.msix!.setMasked(0, false);
    expect([rig.msix!.matches(0), rig.msix!.isMasked(0)]).toEqual([false, true]);
  });
});

it('C.1 a virtual function has no COMMAND.Memory: its table is programmed and unmasked all the same', () => {
  const capabilities = [msix({ vectors: 2, tableBar: 0, tableOffset: 0 })];
  const bars = [{ index: 0, size: 4096, type: 'mem32' }] as const;
  for (const virtualFunction of [true, false]) {
    const config = new ConfigSpace({ name: 'test', vendor: 1, device: 1, classCode: 0, bars, capabilities, virtualFunction });
    const t = MsixTable.of(config)!;
    t.route(1, 0xfee0_0000, 0, 7);
    t.program(1);
    t.setMasked(1, false);
    expect([t.isMasked(1), t.matches(1)]).toEqual([!virtualFunction, virtualFunction]);
  }
});

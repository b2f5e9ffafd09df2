import { expect, it } from 'vitest';
import { CapId, ExtCapId } from '../../abi/pci.ts';
import { headerPermissions } from './header.ts';
import { type CapabilityPermissions, row, withBits } from './rows.ts';
import {
  allRows,
  extendedPermissions,
  formatPermissions,
  permissionsOf,
  permissionTables,
  problemsOf,
  standardPermissions,
} from './tables.ts';

const table = (rows: CapabilityPermissions['rows'], more: Partial<CapabilityPermissions> = {}): CapabilityPermissions => {
  return { id: 1, extended: false, name: 'sample', length: { kind: 'fixed', bytes: 8 }, raw: false, why: 'a reason', rows, ...more };
};

it('S2-44 every row, every capability and every hidden one has a reason', () => {
  for (const t of permissionTables) {
    expect(t.why.length, t.name).toBeGreaterThan(5);
    for (const r of allRows(t)) {
      for (const { why } of [r, ...r.bits]) expect(why.length, `${t.name} ${r.name}`).toBeGreaterThan(5);
    }
  }
});

it('S2-43 the tables are checked when loaded: overlap, order, alignment, length, width, reason', () => {
  for (const t of permissionTables) expect(problemsOf(t)).toEqual([]);
  expect(problemsOf(table([row(0, 4, 'a', 0, 0, 'x'), row(2, 2, 'b', 0, 0, 'x')]))).toContainEqual(expect.stringMatching(/overlaps/));
  expect(problemsOf(table([row(4, 2, 'a', 0, 0, 'x'), row(0, 2, 'b', 0, 0, 'x')]))).toContainEqual(expect.stringMatching(/precedes/));
  expect(problemsOf(table([row(1, 2, 'a', 0, 0, 'x')]))).toContainEqual(expect.stringMatching(/aligned/));
  expect(problemsOf(table([row(8, 1, 'a', 0, 0, 'x')]))).toContainEqual(expect.stringMatching(/beyond the 8 bytes/));
  expect(problemsOf(table([row(0, 1, 'a', 0, 0, ' ')]))).toContainEqual(expect.stringMatching(/no reason/));
  expect(problemsOf(table([{ ...row(0, 1, 'a', 0, 0, 'x'), write: 0x100 }]))).toContainEqual(expect.stringMatching(/beyond its width/));
  expect(problemsOf(table([row(0, 1, 'a', 0, 0, 'x', 'toString' as never)]))).toContainEqual(expect.stringMatching(/unknown trigger/));
  expect(problemsOf(table([withBits(row(0, 1, 'a', 0, 0, 'x'), [3, 'y'], [2, 'z'])]))).toContainEqual(
    expect.stringMatching(/reasons of bits overlap/),
  );
  expect(problemsOf(table([withBits(row(0, 1, 'a', 0, 0, 'x'), [1, ''])]))).toContainEqual(expect.stringMatching(/no reason for bits/));
  expect(problemsOf(table([], { why: '' }))).toContainEqual(expect.stringMatching(/no reason/));
  const long = { kind: 'variable', most: 4, rule: 'x', of: () => 8 } as const;
  expect(problemsOf(table([], { length: long }))).toContainEqual(expect.stringMatching(/above its most/));
});

it('S2-43 the header table covers every register that is not reserved', () => {
  const covered = new Uint8Array(64);
  for (const r of allRows(headerPermissions)) covered.fill(1, r.offset, r.offset + r.width);
  const open = [...covered.keys()].filter((at) => covered[at] === 0);
  expect(open).toEqual([0x35, 0x36, 0x37, 0x38, 0x39, 0x3a, 0x3b]);
});

it('C.2 the standard capabilities that are hidden are those of part C', () => {
  const hidden = standardPermissions.filter((t) => t.length.kind === 'hidden').map((t) => t.id);
  expect(hidden).toEqual([0x04, 0x06, 0x0a, 0x0b, 0x0c, 0x0d, 0x0e, 0x0f, 0x14]);
  expect(standardPermissions.map((t) => t.id)).toEqual(Array.from({ length: 0x14 }, (_, i) => i + 1));
  expect(permissionsOf(CapId.NULL, false)).toBeUndefined();
  expect(permissionsOf(CapId.FPB, false)).toBeUndefined();
});

it('C.3 the extended capabilities that are shown are those of part C', () => {
  const shown = extendedPermissions.filter((t) => t.length.kind !== 'hidden').map((t) => t.id);
  expect(shown).toEqual([0x01, 0x02, 0x03, 0x04, 0x08, 0x09, 0x0b, 0x0d, 0x0e, 0x0f, 0x10, 0x12, 0x13, 0x15, 0x16, 0x17, 0x18, 0x23]);
  expect(permissionsOf(0x7777, true)).toBeUndefined();
});

it('C.3 only vendors’ capabilities are written raw', () => {
  expect(permissionTables.filter((t) => t.raw).map((t) => [t.extended, t.id])).toEqual([
    [false, CapId.VNDR],
    [true, ExtCapId.VNDR],
    [true, ExtCapId.DVSEC],
  ]);
});

it('C.2 lengths follow the registers of the capability', () => {
  const length = (id: number, extended: boolean, registers: Record<number, number>) => {
    const { length: rule } = permissionsOf(id, extended)!;
    return rule.kind === 'fixed' ? rule.bytes : rule.kind === 'hidden' ? 0 : rule.of((offset) => registers[offset] ?? 0);
  };
  expect([0, 0x80, 0x100, 0x180].map((flags) => length(CapId.MSI, false, { 2: flags }))).toEqual([10, 14, 20, 24]);
  expect([0x0001, 0x0091, 0x0002, 0x0092].map((flags) => length(CapId.EXP, false, { 2: flags }))).toEqual([20, 12, 52, 44]);
  expect([0, 0x1000, 0x2000].map((command) => length(CapId.PCIX, false, { 2: command }))).toEqual([8, 24, 24]);
  expect([0x00, 0x1f, 0x20, 0xa8].map((high) => length(CapId.HT, false, { 3: high }))).toEqual([28, 28, 24, 24]);
  expect([0, 5, 0xff].map((bytes) => length(CapId.VNDR, false, { 2: bytes }))).toEqual([0, 5, 255]);
  expect([0, 0xf].map((regs) => length(CapId.SATA, false, { 4: regs }))).toEqual([8, 16]);
  expect([CapId.PM, CapId.AGP, CapId.VPD, CapId.MSIX, CapId.AF].map((id) => length(id, false, {}))).toEqual([8, 12, 8, 12, 6]);
});

it('C.3 lengths follow the registers of the extended capability', () => {
  const length = (id: number, registers: Record<number, number>) => {
    const { length: rule } = permissionsOf(id, true)!;
    return rule.kind === 'fixed' ? rule.bytes : rule.kind === 'hidden' ? 0 : rule.of((offset) => registers[offset] ?? 0);
  };
  expect([0, 1, 7].map((extra) => length(ExtCapId.VC, { 4: extra }))).toEqual([28, 40, 112]);
  // With an arbitration table: on 16 bytes, half a byte per phase.
  expect([2, 4, 8, 0xe].map((phases) => length(ExtCapId.VC, { 8: phases }))).toEqual([32 + 16, 32 + 32, 32 + 64, 32 + 64]);
  expect([0, 0x20].map((acs) => length(ExtCapId.ACS, { 4: acs, 5: 33 }))).toEqual([8, 16]);
  expect(length(ExtCapId.ACS, { 4: 0x20, 5: 0 })).toBe(40);
  expect(length(ExtCapId.REBAR, { 8: 3 << 5 })).toBe(28);
  expect(length(ExtCapId.DPA, { 4: 31 })).toBe(48);
  expect(length(ExtCapId.TPH, { 4: 0 })).toBe(12);
  expect(length(ExtCapId.TPH, { 4: 0x200 | (9 << 16) })).toBe(12 + 20);
  expect([length(ExtCapId.VNDR, { 4: 0x0140_0001 }), length(ExtCapId.DVSEC, { 4: 0x0240_1234 })]).toEqual([0x14, 0x24]);
  const fixed = [
    ExtCapId.ERR,
    ExtCapId.DSN,
    ExtCapId.PWR,
    ExtCapId.ARI,
    ExtCapId.ATS,
    ExtCapId.SRIOV,
    ExtCapId.MCAST,
    ExtCapId.PRI,
    ExtCapId.LTR,
  ];
  expect(fixed.map((id) => length(id, {}))).toEqual([0x2c, 12, 16, 8, 8, 64, 40, 16, 8]);
});

it('S2-05 the tables print with the reason beside each row', () => {
  const text = formatPermissions();
  expect(text).toMatch(/^Config space permissions \(as Linux 7\.2\)/);
  expect(text).toMatch(/\+04 COMMAND +virt 0400 +write ffff +the user may set it.*\n +bits 0x400: the host uses/);
  expect(text).toMatch(/extended capability 0x1b: Process Address Space ID \(hidden\): not supported/);
  expect(text.split('\n').length).toBeGreaterThan(100);
});

/** Builders of extended capabilities, as capabilities.ts for the standard ones. */

import { Acs, Aer, Ari, Ats, Dsn, Dvsec, ExtCapId, Ltr, Pwr, Rebar, Sriov, Vc, Vsec } from '../abi/pci.ts';
import { checkIndex, checkU64, hex } from '../base/check.ts';
import { VfioError } from '../base/errno.ts';
import { CapabilityBuilder, type Placed } from './capability-builder.ts';
import type { Capability } from './declaration.ts';

/** Advanced error reporting. With `rootPort` the root error registers too. */
export function aer(options: { rootPort?: boolean; ecrc?: boolean; version?: number } & Placed = {}): Capability {
  const uncorrectable = 0x0462_f030;
  const correctable = 0x0000_f1c1;
  const ecrc = options.ecrc !== false;
  const builder = new CapabilityBuilder(Aer.SIZE)
    .set(Aer.UNCOR_STATUS, 4, 0, 0, uncorrectable)
    .set(Aer.UNCOR_MASK, 4, 0, uncorrectable)
    .set(Aer.UNCOR_SEVER, 4, 0x0046_2030, uncorrectable)
    .set(Aer.COR_STATUS, 4, 0, 0, correctable)
    .set(Aer.COR_MASK, 4, 0x0000_e000, correctable)
    .set(Aer.CAP, 4, ecrc ? Aer.CAP_ECRC_GENC | Aer.CAP_ECRC_CHKC : 0, ecrc ? Aer.CAP_ECRC_GENE | Aer.CAP_ECRC_CHKE : 0);
  if (options.rootPort === true) builder.set(Aer.ROOT_COMMAND, 4, 0, 0x7).set(Aer.ROOT_STATUS, 4, 0, 0, 0x7f);
  return builder.build({
    id: ExtCapId.ERR,
    name: 'Advanced Error Reporting',
    extended: true,
    version: options.version ?? 2,
    at: options.at,
  });
}

/** Device serial number: 64 bits. @throws VfioError EINVAL */
export function dsn(serial: bigint, options: Placed = {}): Capability {
  checkU64(serial, 'device serial number');
  return new CapabilityBuilder(Dsn.SIZE)
    .set(Dsn.SERIAL_LO, 4, Number(serial & 0xffff_ffffn))
    .set(Dsn.SERIAL_HI, 4, Number(serial >> 32n))
    .build({ id: ExtCapId.DSN, name: 'Device Serial Number', extended: true, version: 1, at: options.at });
}

/**
 * Access control services: what the port can keep apart. `enabled` are the bits of the control register at power-on (the host sets them
 * later as a rule); the default capabilities are those that make a group of its own: SV, RR, CR, UF.
 */
export function acs(options: { capabilities?: number; enabled?: number; egressVectorBits?: number } & Placed = {}): Capability {
  const bits = checkIndex(options.egressVectorBits ?? 0, 255, 'egress control vector bits');
  const capabilities =
    checkIndex(options.capabilities ?? Acs.SV | Acs.RR | Acs.CR | Acs.UF, 0x7f, 'ACS capabilities') & ~(bits === 0 ? Acs.EC : 0);
  return new CapabilityBuilder(Acs.SIZE + Math.ceil(bits / 32) * 4)
    .set(Acs.CAP, 2, capabilities | (bits << 8))
    .set(Acs.CTRL, 2, (options.enabled ?? 0) & capabilities, capabilities)
    .build({ id: ExtCapId.ACS, name: 'Access Control Services', extended: true, version: 1, at: options.at });
}

/** Alternative routing-ID interpretation: `nextFunction` is the next function's number, 0 at the end. */
export function ari(options: { nextFunction?: number } & Placed = {}): Capability {
  const next = checkIndex(options.nextFunction ?? 0, 0xff, 'next function number');
  return new CapabilityBuilder(Ari.SIZE)
    .set(Ari.CAP, 2, next << Ari.CAP_NFN_SHIFT)
    .build({ id: ExtCapId.ARI, name: 'Alternative Routing-ID Interpretation', extended: true, version: 1, at: options.at });
}

/** Address translation service. */
export function ats(options: Placed = {}): Capability {
  return new CapabilityBuilder(Ats.SIZE)
    .set(Ats.CAP, 2, 0x0020)
    .set(Ats.CTRL, 2, 0, 0x801f)
    .build({ id: ExtCapId.ATS, name: 'Address Translation Service', extended: true, version: 1, at: options.at });
}

/** One BAR that every virtual function has: bytes, a power of two from 4096. */
export interface VfBar {
  readonly index: number;
  readonly size: number;
  readonly type: 'mem32' | 'mem64';
  readonly prefetchable?: boolean;
}

/** Single-root I/O virtualization of a physical function. @throws VfioError EINVAL */
export function sriov(
  options: {
    totalVfs: number;
    vfDevice: number;
    firstOffset?: number;
    stride?: number;
    bars?: readonly VfBar[];
  } & Placed,
): Capability {
  const total = checkIndex(options.totalVfs, 0xffff, 'number of VFs');
  const builder = new CapabilityBuilder(Sriov.SIZE)
    .set(Sriov.CTRL, 2, 0, Sriov.CTRL_VFE | Sriov.CTRL_MSE | Sriov.CTRL_ARI)
    .set(Sriov.INITIAL_VF, 2, total)
    .set(Sriov.TOTAL_VF, 2, total)
    .set(Sriov.NUM_VF, 2, 0, 0xffff)
    .set(Sriov.VF_OFFSET, 2, checkIndex(options.firstOffset ?? 1, 0xffff, 'first VF offset'))
    .set(Sriov.VF_STRIDE, 2, checkIndex(options.stride ?? 1, 0xffff, 'VF stride'))
    .set(Sriov.VF_DID, 2, checkIndex(options.vfDevice, 0xffff, 'VF device id'))
    .set(Sriov.SUP_PGSIZE, 4, 0x553)
    .set(Sriov.SYS_PGSIZE, 4, 0x1, 0x553);
  for (const bar of options.bars ?? []) {
    const last = bar.index + (bar.type === 'mem64' ? 1 : 0);
    if (
      !Number.isInteger(bar.index) ||
      bar.index < 0 ||
      last > 5 ||
      !Number.isInteger(Math.log2(bar.size)) ||
      bar.size < 4096 ||
      bar.size > 2 ** 52
    ) {
      throw new VfioError(
        'EINVAL',
        `VF BAR ${String(bar.index)} of ${String(bar.size)} bytes: index 0 to 5, a power of two from ${hex(4096)}`,
      );
    }
    const mask = ~(BigInt(bar.size) - 1n);
    const at = Sriov.BAR + 4 * bar.index;
    const type = (bar.type === 'mem64' ? 4 : 0) | (bar.prefetchable === true ? 8 : 0);
    builder.set(at, 4, type, Number(BigInt.asUintN(32, mask)));
    if (bar.type === 'mem64') builder.set(at + 4, 4, 0, Number(BigInt.asUintN(32, mask >> 32n)));
  }
  return builder.build({ id: ExtCapId.SRIOV, name: 'Single Root I/O Virtualization', extended: true, version: 1, at: options.at });
}

/** Vendor-specific extended capability: `body` follows its own header. */
export function vsec(options: { id: number; revision?: number; body: Uint8Array; writable?: Uint8Array | true } & Placed): Capability {
  const size = roundedBody(8, options.body, 'VSEC');
  const header =
    checkIndex(options.id, 0xffff, 'VSEC id') | (checkIndex(options.revision ?? 0, 15, 'VSEC revision') << Vsec.HEADER_REV_SHIFT);
  const builder = new CapabilityBuilder(size).set(Vsec.HEADER, 4, (header | (size << Vsec.HEADER_LENGTH_SHIFT)) >>> 0);
  fillBody(builder, 8, options.body, options.writable);
  return builder.build({ id: ExtCapId.VNDR, name: 'Vendor Specific (extended)', extended: true, version: 1, at: options.at });
}

/** Designated vendor-specific extended capability: `body` follows the two headers, at byte 10. */
export function dvsec(
  options: { vendor: number; id: number; revision?: number; body: Uint8Array; writable?: Uint8Array | true } & Placed,
): Capability {
  const size = roundedBody(10, options.body, 'DVSEC');
  const header =
    checkIndex(options.vendor, 0xffff, 'DVSEC vendor') |
    (checkIndex(options.revision ?? 0, 15, 'DVSEC revision') << Dvsec.HEADER1_REV_SHIFT);
  const builder = new CapabilityBuilder(size)
    .set(Dvsec.HEADER1, 4, (header | (size << Dvsec.HEADER1_LENGTH_SHIFT)) >>> 0)
    .set(Dvsec.HEADER2, 2, checkIndex(options.id, 0xffff, 'DVSEC id'));
  fillBody(builder, 10, options.body, options.writable);
  return builder.build({ id: ExtCapId.DVSEC, name: 'Designated Vendor Specific', extended: true, version: 1, at: options.at });
}

function roundedBody(headers: number, body: Uint8Array, what: string): number {
  const size = Math.ceil((headers + body.length) / 4) * 4;
  if (size > 0xf00) throw new VfioError('EINVAL', `a ${what} cannot have ${size} bytes; there is room for ${0xf00}`);
  return size;
}

function fillBody(builder: CapabilityBuilder, from: number, body: Uint8Array, writable: Uint8Array | true | undefined): void {
  builder.bytes.set(body, from);
  if (writable === true) builder.writable.fill(0xff, from);
  else if (writable !== undefined) builder.writable.set(writable.subarray(0, body.length), from);
}

/** Latency tolerance reporting. */
export function ltr(options: Placed = {}): Capability {
  return new CapabilityBuilder(Ltr.SIZE)
    .set(Ltr.MAX_SNOOP_LAT, 2, 0, 0x1fff)
    .set(Ltr.MAX_NOSNOOP_LAT, 2, 0, 0x1fff)
    .build({ id: ExtCapId.LTR, name: 'Latency Tolerance Reporting', extended: true, version: 1, at: options.at });
}

/** Resizable BARs: for each, which sizes it can have (log2 of bytes, 20 to 39) and which it has now. @throws VfioError EINVAL */
export function resizableBar(
  bars: readonly { index: number; sizes: readonly number[]; current: number }[],
  options: Placed = {},
): Capability {
  if (bars.length < 1 || bars.length > 6) throw new VfioError('EINVAL', `${bars.length} resizable BARs; from 1 to 6`);
  const builder = new CapabilityBuilder(Rebar.HEADER_SIZE + Rebar.PER_BAR_SIZE * bars.length);
  bars.forEach((bar, i) => {
    checkIndex(bar.index, 5, 'index of a resizable BAR');
    let supported = 0;
    for (const log2 of bar.sizes) supported |= 1 << (checkIndex(log2, 39, 'size of a resizable BAR, as log2') < 20 ? 31 : log2 - 16);
    if (!bar.sizes.includes(bar.current) || bar.sizes.some((log2) => log2 < 20 || log2 > 39)) {
      throw new VfioError('EINVAL', `resizable BAR ${bar.index}: sizes are from 20 to 39 (log2 of bytes), the current one among them`);
    }
    const at = Rebar.PER_BAR_SIZE * i;
    const control = bar.index | ((bar.current - 20) << 8) | (i === 0 ? bars.length << Rebar.CTRL_NBAR_SHIFT : 0);
    builder.set(Rebar.CAP + at, 4, (supported & 0xffff_fff0) >>> 0).set(Rebar.CTRL + at, 4, control, 0x3f00);
  });
  return builder.build({ id: ExtCapId.REBAR, name: 'Resizable BAR', extended: true, version: 1, at: options.at });
}

/** Power budgeting. */
export function powerBudgeting(options: Placed = {}): Capability {
  return new CapabilityBuilder(Pwr.SIZE)
    .set(Pwr.DSR, 1, 0, 0xff)
    .build({ id: ExtCapId.PWR, name: 'Power Budgeting', extended: true, version: 1, at: options.at });
}

/** Virtual channels: `extra` beyond the first one. */
export function virtualChannels(options: { extra?: number } & Placed = {}): Capability {
  const extra = checkIndex(options.extra ?? 0, Vc.CAP1_EVCC, 'extra virtual channels');
  const builder = new CapabilityBuilder(Vc.BASE_SIZE + Vc.PER_VC_SIZE * (1 + extra)).set(Vc.PORT_CAP1, 4, extra);
  for (let i = 0; i <= extra; i++) builder.set(Vc.BASE_SIZE + Vc.PER_VC_SIZE * i + 4, 4, i === 0 ? 0x8000_00ff : i << 24, 0x8700_00fe);
  return builder.build({ id: ExtCapId.VC, name: 'Virtual Channel', extended: true, version: 1, at: options.at });
}

/** Any other extended capability: `bytes` from the fifth byte on. Read-only unless masks are given. */
export function otherExtendedCapability(
  id: number,
  name: string,
  bytes: Uint8Array,
  options: { version?: number; writable?: Uint8Array; writeOneClears?: Uint8Array } & Placed = {},
): Capability {
  const builder = new CapabilityBuilder(4 + bytes.length);
  builder.bytes.set(bytes, 4);
  builder.writable.set((options.writable ?? new Uint8Array(0)).subarray(0, bytes.length), 4);
  builder.writeOneClears.set((options.writeOneClears ?? new Uint8Array(0)).subarray(0, bytes.length), 4);
  return builder.build({
    id: checkIndex(id, 0xffff, 'extended capability id'),
    name,
    extended: true,
    version: options.version ?? 1,
    at: options.at,
  });
}

/**
 * A config space, decoded: plain data for programs (it goes through JSON) and, by format-lspci.ts,
 * the text that lspci prints.
 */
import { Bar, CapId, Cardbus, CFG_SPACE_EXP_SIZE, CFG_SPACE_SIZE, Command, Config, HEADER_SIZE, HeaderType, Status } from '../abi/pci.ts';
import { VfioError } from '../base/errno.ts';
import { bdfParts, parseBdf } from './bdf.ts';
import { Ssvid } from './capabilities/bridge-capabilities.ts';
import type { CapabilityContext } from './capabilities/kind.ts';
import { capabilityPointerAt, type WalkStep, walkCapabilities, walkExtendedCapabilities } from './capabilities/walk.ts';
import { type DecodedBridge, decodeBridge } from './decode/bridge.ts';
import { type DecodedCapability, decodeCapability } from './decode/capability.ts';
import { type DecodedCardbus, decodeCardbus } from './decode/cardbus.ts';
import { CapabilityReader, extract } from './decode/text.ts';
import type { DecodedId, PciNames } from './pci-ids.ts';
import type { KnownRegion } from './user-view.ts';

export type { DecodedBridge, DecodedWindow } from './decode/bridge.ts';
export type { DecodedCapability } from './decode/capability.ts';
export type { DecodedCardbus, DecodedCardbusWindow } from './decode/cardbus.ts';

export interface DecodedRegion {
  readonly index: number;
  readonly kind: 'io' | 'memory';
  /** Memory: '32-bit', '64-bit', 'low-1M' or 'type 3'. */
  readonly width: string;
  readonly prefetchable: boolean;
  /** Hexadecimal with 0x; null while there is none. */
  readonly address: string | null;
  /** Its registers hold an address that the kernel does not use. */
  readonly ignored?: true;
  /** Its kind of access is switched off in COMMAND. */
  readonly disabled: boolean;
  /** Present when `resources` has the size. */
  readonly size?: number;
  /**
   * The register does not show it, as on a virtual function; the value comes from another source.
   */
  readonly virtual?: true;
}

export interface DecodedRom {
  readonly address: string | null;
  readonly virtual?: true;
  /** All ones, or an address that the kernel does not use. */
  readonly ignored: boolean;
  readonly enabled: boolean;
  readonly size?: number;
}

export interface DecodedConfig {
  readonly bdf: string;
  /** Bytes decoded: 64, 256 or 4096. */
  readonly size: number;
  readonly vendor: DecodedId;
  readonly device: DecodedId;
  readonly subsystem: { readonly vendor: DecodedId; readonly device: DecodedId } | null;
  readonly class: {
    readonly base: number;
    readonly sub: number;
    readonly progIf: number;
    readonly baseName?: string;
    readonly name?: string;
    readonly progIfName?: string;
  };
  readonly revision: number;
  readonly header: { readonly type: number; readonly kind: 'endpoint' | 'bridge' | 'cardbus' | 'unknown'; readonly multifunction: boolean };
  readonly command: number;
  readonly status: number;
  readonly cacheLineSize: number;
  readonly latencyTimer: number;
  readonly minGnt: number;
  readonly maxLat: number;
  readonly bist: number;
  readonly interrupt: { readonly pin: number; readonly line: number };
  readonly regions: readonly DecodedRegion[];
  readonly rom: DecodedRom | null;
  readonly bridge: DecodedBridge | null;
  readonly cardbus: DecodedCardbus | null;
  readonly capabilities: readonly DecodedCapability[];
  readonly extendedCapabilities: readonly DecodedCapability[];
  /** The offset where a chain ends in a loop, or where nothing answers. */
  readonly chainEnds: readonly ChainEnd[];
  /** The faults, a sentence each. */
  readonly warnings: readonly string[];
  /** Every byte is ones: the device is asleep, or gone. */
  readonly answers: boolean;
  /** Facts that the function's host knows beside config space. */
  readonly host: HostFacts;
}

export interface HostFacts {
  readonly driver?: string;
  /** The slot that its card is in. */
  readonly slot?: string;
  readonly iommuGroup?: number;
  readonly numaNode?: number;
  /** The interrupt number that the host gave it, which INTERRUPT_LINE does not follow. */
  readonly irq?: number;
}

/**
 * Ids from another source: a virtual function does not show its own, and a device that does not
 * answer shows none.
 */
export interface KnownIdentity {
  readonly vendor: number;
  readonly device: number;
  readonly subsystemVendor: number;
  readonly subsystem: number;
  readonly classCode: number;
  readonly revision: number;
}

export interface DecodeOptions {
  readonly bdf?: string;
  readonly names?: PciNames | null;
  /**
   * The regions by index (6 = ROM): their sizes, which config space alone does not show, or all
   * that is known of them.
   */
  readonly resources?: readonly (number | KnownRegion | undefined)[];
  readonly identity?: KnownIdentity | undefined;
  readonly host?: HostFacts | undefined;
}

/**
 * Decode `bytes`: 64, 256 or 4096 of them (others count as the next smaller of these). It throws
 * for no other bytes, and looks at each a bounded number of times.
 *
 * @throws VfioError EINVAL for fewer than 64 bytes or a malformed BDF
 */
export function decodeConfig(bytes: Uint8Array, options: DecodeOptions = {}): DecodedConfig {
  const size = [CFG_SPACE_EXP_SIZE, CFG_SPACE_SIZE, HEADER_SIZE].find((s) => bytes.length >= s);
  if (size === undefined) throw new VfioError('EINVAL', `config space of ${bytes.length} bytes; at least ${HEADER_SIZE} are needed`);
  const whole = bytes.subarray(0, size);
  const r = new CapabilityReader(whole, 0);
  const bdf = parseBdf(options.bdf ?? '0000:00:00.0');
  const names = options.names ?? null;
  const type = r.u8(Config.HEADER_TYPE) & HeaderType.MASK;
  const kind = (['endpoint', 'bridge', 'cardbus'] as const)[type] ?? 'unknown';
  const answers = !whole.every((byte) => byte === 0xff);
  const { identity } = options;
  const vendor = identity?.vendor ?? r.u16(Config.VENDOR_ID);
  const device = identity?.device ?? r.u16(Config.DEVICE_ID);
  const silent = answers ? undefined : identity;
  const barCount = { endpoint: 6, bridge: 2, cardbus: 1, unknown: 0 }[kind];
  const regions = decodeRegions(r, barCount, options.resources);
  const subsystemNamed = (sv: number, sd: number) => ({
    vendor: named(sv, names?.vendor(sv)),
    device: named(sd, names?.subsystem(vendor, device, sv, sd)),
  });

  const walk = walkCapabilities(whole);
  const listed = size > HEADER_SIZE && (r.u16(Config.STATUS) & Status.CAP_LIST) !== 0;
  const express = walk.steps.findLast((step) => step.id === CapId.EXP);
  const hasExtended = express !== undefined || walk.steps.some((step) => step.id === CapId.PCIX);
  const context: CapabilityContext = {
    bdf: bdfParts(bdf),
    portType: express === undefined ? null : extract(r.u16(express.offset + 2), 7, 4),
    // A 64-bit register in the last place is half a register: see decodeRegions.
    hasMemoryBar: regions.some((region) => region.kind === 'memory' && !(region.width === '64-bit' && region.index === barCount - 1)),
    bridge: kind === 'bridge',
    intel: vendor === 0x8086,
    virtio: vendor === 0x1af4 && device >= 0x1000 && device <= 0x107f,
  };
  const capabilities = walk.steps.map((step) => {
    const capability = decodeCapability(whole, step, false, context);
    if (step.id !== CapId.SSVID) return capability;
    return { ...capability, subsystem: subsystemNamed(r.u16(step.offset + Ssvid.VENDOR_ID), r.u16(step.offset + Ssvid.DEVICE_ID)) };
  });
  const extendedWalk = hasExtended ? walkExtendedCapabilities(whole) : { steps: [], warnings: [] };
  // A header of zeros ends the chain, and is not a capability.
  const extendedSteps = extendedWalk.steps.filter((step) => step.id !== 0 || step.version !== 0 || step.next !== 0);
  const extendedCapabilities = extendedSteps.map((step) => decodeCapability(whole, step, true, context));
  const classCode = identity?.classCode ?? r.u32(Config.REVISION_ID) >>> 8;
  const [base, sub, progIf] = [extract(classCode, 23, 16), extract(classCode, 15, 8), extract(classCode, 7, 0)];

  const ssvid = walk.steps.find((step) => step.id === CapId.SSVID);
  const subsystemAt = {
    endpoint: Config.SUBSYSTEM_VENDOR_ID,
    bridge: ssvid === undefined ? null : ssvid.offset + Ssvid.VENDOR_ID,
    cardbus: size > HEADER_SIZE ? Cardbus.SUBSYSTEM_VENDOR_ID : null,
    unknown: null,
  }[kind];
  const subsystemVendor = silent?.subsystemVendor ?? (subsystemAt === null ? 0xffff : r.u16(subsystemAt));
  const subsystem = silent?.subsystem ?? (subsystemAt === null ? 0xffff : r.u16(subsystemAt + 2));
  return {
    bdf,
    size,
    vendor: named(vendor, names?.vendor(vendor)),
    device: named(device, names?.device(vendor, device)),
    subsystem: subsystemVendor === 0 || subsystemVendor === 0xffff ? null : subsystemNamed(subsystemVendor, subsystem),
    class: {
      base,
      sub,
      progIf,
      ...optional('baseName', names?.baseClass(base)),
      ...optional('name', names?.subClass(base, sub)),
      ...optional('progIfName', names?.progIf(base, sub, progIf)),
    },
    revision: identity?.revision ?? r.u8(Config.REVISION_ID),
    header: { type, kind, multifunction: (r.u8(Config.HEADER_TYPE) & HeaderType.MULTIFUNCTION) !== 0 },
    command: r.u16(Config.COMMAND),
    status: r.u16(Config.STATUS),
    cacheLineSize: r.u8(Config.CACHE_LINE_SIZE),
    latencyTimer: r.u8(Config.LATENCY_TIMER),
    minGnt: kind === 'endpoint' ? r.u8(Config.MIN_GNT) : 0,
    maxLat: kind === 'endpoint' ? r.u8(Config.MAX_LAT) : 0,
    bist: r.u8(Config.BIST),
    interrupt: { pin: r.u8(Config.INTERRUPT_PIN), line: r.u8(Config.INTERRUPT_LINE) },
    regions,
    rom: kind === 'endpoint' || kind === 'bridge' ? decodeRom(r, kind === 'bridge', options.resources?.[6]) : null,
    bridge: kind === 'bridge' ? decodeBridge(r) : null,
    cardbus: kind === 'cardbus' ? decodeCardbus(r) : null,
    capabilities,
    extendedCapabilities,
    chainEnds: [
      ...chainEnd(whole, walk.steps, listed ? r.u8(capabilityPointerAt(whole)) & ~3 : 0, false),
      ...chainEnd(whole, extendedWalk.steps, 0, true),
    ],
    warnings: [...walk.warnings, ...extendedWalk.warnings],
    answers,
    host: options.host ?? {},
  };
}

function named(id: number, name: string | undefined): DecodedId {
  return { id, ...optional('name', name) };
}

function optional<K extends string, V>(key: K, value: V | undefined): { readonly [P in K]?: V } {
  return (value === undefined ? {} : { [key]: value }) as { readonly [P in K]?: V };
}

const memoryWidths = ['32-bit', 'low-1M', '64-bit', 'type 3'];

function decodeRegions(r: CapabilityReader, count: number, resources: DecodeOptions['resources']): DecodedRegion[] {
  const regions: DecodedRegion[] = [];
  const command = r.u16(Config.COMMAND);
  for (let index = 0; index < count; index++) {
    const own = index;
    const known = resources?.[own];
    const value = r.u32(Config.BASE_ADDRESS_0 + 4 * index);
    const wide = (value & (Bar.SPACE_IO | Bar.MEM_TYPE_MASK)) === Bar.MEM_TYPE_64;
    const upper = wide && index + 1 < count ? r.u32(Config.BASE_ADDRESS_0 + 4 * ++index) : 0;
    // All ones is what reads where nothing is; zero is a register that does not exist.
    if ((value === 0 && upper === 0) || value === 0xffff_ffff) {
      if (typeof known !== 'object' || !known.address) continue;
      regions.push(virtualRegion(own, known, known.address, command));
      if (known.wide) index = own + 1;
      continue;
    }
    const size = optional('size', sizeOf(known));
    // A host bridge may translate: processors reach a region where the kernel says, not where its
    // registers do.
    const placed = typeof known === 'object' ? known.address : undefined;
    if ((value & Bar.SPACE_IO) !== 0) {
      const disabled = (command & Command.IO) === 0;
      const address = placed ?? BigInt((value & Bar.IO_MASK) >>> 0);
      const shown = address === 0n && disabled ? null : `0x${address.toString(16)}`;
      const ignored = placed === 0n && disabled ? ({ ignored: true } as const) : {};
      regions.push({ index: own, kind: 'io', width: '32-bit', prefetchable: false, address: shown, ...ignored, disabled, ...size });
      continue;
    }
    const low = BigInt((value & Bar.MEM_MASK) >>> 0);
    // A 64-bit register in the last place has no upper half, so no address.
    const address = placed ?? (wide && own === index ? 0n : low | (BigInt(upper) << 32n));
    regions.push({
      index: own,
      kind: 'memory',
      width: memoryWidths[extract(value, 2, 1)]!,
      prefetchable: (value & Bar.MEM_PREFETCH) !== 0,
      address: address === 0n ? null : `0x${address.toString(16)}`,
      ...(placed === 0n ? { ignored: true } : {}),
      disabled: (command & Command.MEMORY) === 0,
      ...size,
    });
  }
  return regions;
}

function sizeOf(known: number | KnownRegion | undefined): number | undefined {
  return typeof known === 'object' ? Number(known.size) : known;
}

/** The BAR of a virtual function, or legacy I/O ports, which no register moves. */
function virtualRegion(index: number, { kind, wide, prefetchable, size }: KnownRegion, address: bigint, command: number): DecodedRegion {
  const width = wide ? '64-bit' : '32-bit';
  if (kind === 'io') {
    const disabled = (command & Command.IO) === 0;
    return { index, kind, width, prefetchable: false, address: `0x${address.toString(16)}`, disabled, size: Number(size) };
  }
  return { index, kind, width, prefetchable, address: `0x${address.toString(16)}`, disabled: false, size: Number(size), virtual: true };
}

function decodeRom(r: CapabilityReader, bridge: boolean, known: number | KnownRegion | undefined): DecodedRom | null {
  const value = r.u32(bridge ? Config.BRIDGE_ROM_ADDRESS : Config.ROM_ADDRESS);
  if (value === 0) {
    if (typeof known !== 'object' || !known.address) return null;
    return { address: `0x${known.address.toString(16)}`, ignored: false, enabled: false, size: Number(known.size), virtual: true };
  }
  const placed = typeof known === 'object' ? known.address : undefined;
  const register = (value & Bar.ROM_MASK) >>> 0;
  const address = placed ?? BigInt(register);
  return {
    address: address === 0n ? null : `0x${address.toString(16)}`,
    ignored: placed === undefined ? value === 0xffff_ffff : placed === 0n && register !== 0,
    enabled: (value & Bar.ROM_ENABLE) !== 0,
    ...optional('size', sizeOf(known)),
  };
}

interface ChainEnd {
  readonly extended: boolean;
  readonly offset: number;
  readonly version: number;
  readonly why: 'looped' | 'broken';
}

/** Where a chain goes wrong: at a capability that was seen, or where nothing answers. */
function chainEnd(bytes: Uint8Array, steps: readonly WalkStep[], first: number, extended: boolean): ChainEnd[] {
  const last = steps.at(-1);
  const offset = last?.next ?? (first >= HEADER_SIZE ? first : 0);
  const looped = steps.find((step) => step.offset === offset);
  if (looped !== undefined) return [{ extended, offset, version: looped.version, why: 'looped' }];
  return !extended && offset !== 0 && bytes[offset] === 0xff ? [{ extended, offset, version: 0, why: 'broken' }] : [];
}

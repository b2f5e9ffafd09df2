/**
 * PermissionMap: the permission tables laid over one device's config space. For every byte it says
 * to which capability the byte belongs, which bits are the user's copy, which can be written, and
 * why. It also holds that copy as it is at open: the edited capability list.
 *
 * Config space comes from a device and is not believed: walks are bounded (capability-walk.ts),
 * lengths are cut at the end of the space, overlaps become warnings and the later capability wins,
 * as in Linux. Where the chain loops or points nowhere, the user's chain ends.
 *
 * @see linux/drivers/vfio/pci/vfio_pci_config.c, vfio_cap_init(), vfio_ecap_init()
 */

import {
  CapHeader,
  CapId,
  CFG_SPACE_EXP_SIZE,
  CFG_SPACE_SIZE,
  Config,
  ExtCapHeader,
  HEADER_SIZE,
  HeaderType,
  Pm,
  Status,
} from '../abi/pci.ts';
import { hex } from '../base/check.ts';
import { viewOf } from '../base/data-view.ts';
import { VfioError } from '../base/errno.ts';
import { Pcix } from './capabilities/pci-x.ts';
import { type WalkStep, walkCapabilities, walkExtendedCapabilities } from './capabilities/walk.ts';
import { headerPermissions } from './permissions/header.ts';
import type { CapabilityPermissions, PermissionRow, Trigger } from './permissions/rows.ts';
import { permissionsOf, unknownCapabilityWhy } from './permissions/tables.ts';

export type RegionKind =
  | 'header'
  | 'capability'
  | 'extended'
  /**
   * A hidden first extended capability: it cannot leave the chain, so its id and version read 0.
   */
  | 'placeholder'
  /** Between capabilities, or a hidden one: straight to hardware. */
  | 'gap';

/** A stretch of config space under one set of rules. */
export interface ConfigRegion {
  readonly kind: RegionKind;
  /** Of the capability; 0 for the header, -1 for gaps. */
  readonly id: number;
  readonly name: string;
  /** Where the header or capability starts: offsets of its rows count from here. */
  readonly start: number;
  /** Bytes of the capability, before others overlapped it. */
  readonly length: number;
  readonly why: string;
  /** All but the header can be written straight to hardware. */
  readonly raw: boolean;
}

export interface HiddenCapability {
  readonly id: number;
  readonly extended: boolean;
  readonly offset: number;
  readonly name: string;
  readonly why: string;
}

/** A register of the map: a row of the tables, or a byte that no row names. */
export interface ConfigField {
  readonly offset: number;
  readonly width: number;
  readonly name: string;
  readonly why: string;
  readonly triggers: readonly Trigger[];
}

/** The input of a map: a ConfigSpace, or bytes read elsewhere. */
export interface ConfigBytes {
  readonly size: number;
  readonly bytes: Uint8Array;
}

const MAX_WARNINGS = 100;
const GAP_WHY = 'between capabilities: straight to hardware, because devices hide registers there; isolation does not depend on it';
const RAW_HEADER_WHY = 'read-only: the header of the capability, which says what the registers below it are';
const PLACEHOLDER_WHY = 'a hidden capability that starts the list: read-only, only its pointer to the next one is shown';

export class PermissionMap {
  readonly size: number;
  /** Bits answered from the user's copy, per byte. */
  readonly virt: Uint8Array;
  /** Bits that can be written, per byte. */
  readonly write: Uint8Array;
  /** The user's copy as it is at open. Only its `virt` bits are ever looked at. */
  readonly initial: Uint8Array;
  /** In order of the chain; gaps are not in it. */
  readonly regions: readonly ConfigRegion[];
  readonly hidden: readonly HiddenCapability[];
  readonly warnings: readonly string[];
  readonly #owners: readonly (ConfigRegion | undefined)[];
  readonly #regionOf: Uint16Array;
  readonly #rowOf: (PermissionRow | undefined)[];

  /** @throws VfioError EINVAL when the bytes are not a config space of 256 or 4096 bytes */
  constructor(config: ConfigBytes) {
    const { size } = config;
    if ((size !== CFG_SPACE_SIZE && size !== CFG_SPACE_EXP_SIZE) || config.bytes.length < size) {
      throw new VfioError('EINVAL', `a config space has ${CFG_SPACE_SIZE} or ${CFG_SPACE_EXP_SIZE} bytes, not ${String(size)}`);
    }
    this.size = size;
    this.virt = new Uint8Array(size);
    this.write = new Uint8Array(size).fill(0xff, HEADER_SIZE);
    this.initial = config.bytes.slice(0, size);
    this.#regionOf = new Uint16Array(size);
    this.#rowOf = new Array(size);
    const build = new MapBuilder(config.bytes.subarray(0, size), this.virt, this.write, this.initial, this.#regionOf, this.#rowOf);
    build.header();
    if ((config.bytes[Config.HEADER_TYPE]! & HeaderType.MASK) !== HeaderType.NORMAL) {
      build.warnings.push('not an endpoint: VFIO gives no bridges away, the map is what an endpoint would have');
    }
    build.extended(build.standard());
    this.regions = build.regions.slice(1);
    this.#owners = [undefined, ...this.regions];
    this.hidden = build.hidden;
    this.warnings = build.warnings;
  }

  /** The header or capability that a byte belongs to; undefined in a gap. Allocates nothing. */
  ownerAt(offset: number): ConfigRegion | undefined {
    return this.#owners[this.#regionOf[offset]!];
  }

  /** The region of a byte, gaps described too. */
  regionAt(offset: number): ConfigRegion {
    const index = this.#regionOf[offset]!;
    if (index !== 0) return this.#owners[index]!;
    const inside = this.hidden.find((h) => h.offset <= offset && offset < h.offset + 4);
    let start = offset;
    while (start > HEADER_SIZE && this.#regionOf[start - 1] === 0) start--;
    let end = offset + 1;
    while (end < this.size && this.#regionOf[end] === 0) end++;
    const why = inside === undefined ? GAP_WHY : `start of the hidden ${inside.name} capability (${inside.why}); ${GAP_WHY}`;
    return { kind: 'gap', id: -1, name: 'gap', start, length: end - start, why, raw: true };
  }

  /** The register at a byte. */
  fieldAt(offset: number): ConfigField {
    const region = this.regionAt(offset);
    const row = this.#rowOf[offset];
    if (row === undefined) {
      // Bytes that no row names: as many of this dword as share the same fate.
      const same = (at: number) => at < this.size && this.#regionOf[at] === this.#regionOf[offset] && this.#rowOf[at] === undefined;
      let start = offset;
      while (start % 4 !== 0 && same(start - 1)) start--;
      let end = offset + 1;
      while (end % 4 !== 0 && same(end)) end++;
      return { offset: start, width: end - start, name: region.name, why: region.why, triggers: [] };
    }
    return { offset: region.start + row.offset, width: row.width, name: row.name, why: row.why, triggers: row.triggers };
  }

  /** Why bit `bit` (0 to 7) of a byte is as it is. */
  whyAt(offset: number, bit: number): string {
    const row = this.#rowOf[offset];
    if (row === undefined) {
      const region = this.regionAt(offset);
      // Rules name the writable bytes; the rest of such a capability is its header.
      return region.raw && (this.write[offset]! & (1 << bit)) === 0 ? RAW_HEADER_WHY : region.why;
    }
    const mask = 2 ** (8 * (offset - this.#owners[this.#regionOf[offset]!]!.start - row.offset) + bit);
    return row.bits.find((reason) => Math.floor(reason.mask / mask) % 2 === 1)?.why ?? row.why;
  }

  /**
   * Bytes of the first access that [offset, offset+count) is made in: 4, 2 or 1, aligned, within a
   * dword and within one capability.
   *
   * @see linux/drivers/vfio/pci/vfio_pci_config.c, vfio_pci_cap_remaining_dword()
   */
  chunk(offset: number, count: number): 1 | 2 | 4 {
    const region = this.#regionOf[offset];
    let run = 1;
    while (run < count && (offset + run) % 4 !== 0 && this.#regionOf[offset + run] === region) run++;
    if (run >= 4) return 4;
    return run >= 2 && offset % 2 === 0 ? 2 : 1;
  }

  /** The map for people: a line per region, gaps included. */
  format(): string {
    const lines: string[] = [];
    for (let at = 0; at < this.size; ) {
      const region = this.regionAt(at);
      let end = at + 1;
      while (end < this.size && this.#regionOf[end] === this.#regionOf[at]) end++;
      lines.push(
        `${at.toString(16).padStart(3, '0')}-${(end - 1).toString(16).padStart(3, '0')} ${region.name} (${region.kind}): ${region.why}`,
      );
      at = end;
    }
    for (const h of this.hidden)
      lines.push(`hidden: ${h.extended ? 'extended ' : ''}capability ${hex(h.id)} ${h.name} at ${hex(h.offset)}: ${h.why}`);
    for (const warning of this.warnings) lines.push(`warning: ${warning}`);
    return lines.join('\n');
  }
}

/** Fills the arrays of a map; exists only while one is made. */
class MapBuilder {
  /** Index 0 stands for gaps. */
  readonly regions: ConfigRegion[] = [{ kind: 'gap', id: -1, name: 'gap', start: 0, length: 0, why: GAP_WHY, raw: true }];
  readonly hidden: HiddenCapability[] = [];
  readonly warnings: string[] = [];
  readonly #bytes: Uint8Array;
  readonly #virt: Uint8Array;
  readonly #write: Uint8Array;
  readonly #initial: Uint8Array;
  readonly #initialView: DataView;
  readonly #regionOf: Uint16Array;
  readonly #rowOf: (PermissionRow | undefined)[];

  constructor(
    bytes: Uint8Array,
    virt: Uint8Array,
    write: Uint8Array,
    initial: Uint8Array,
    regionOf: Uint16Array,
    rowOf: (PermissionRow | undefined)[],
  ) {
    this.#bytes = bytes;
    this.#virt = virt;
    this.#write = write;
    this.#initial = initial;
    this.#initialView = viewOf(initial);
    this.#regionOf = regionOf;
    this.#rowOf = rowOf;
  }

  /** A hostile device can be wrong in thousands of ways; the first hundred do. */
  #warn(warning: string): void {
    if (this.warnings.length < MAX_WARNINGS) this.warnings.push(warning);
  }

  header(): void {
    this.#place(
      { kind: 'header', id: 0, name: headerPermissions.name, start: 0, length: HEADER_SIZE, why: headerPermissions.why, raw: false },
      headerPermissions,
    );
  }

  /** True when extended capabilities are to be looked at: PCI Express, or PCI-X with a version. */
  standard(): boolean {
    // VFIO looks where an endpoint has the pointer, whatever the header (vfio_cap_init()).
    const walk = walkCapabilities(this.#bytes, Config.CAPABILITY_LIST);
    for (const warning of walk.warnings) this.#warn(warning);
    let link: number = Config.CAPABILITY_LIST;
    let shown = 0;
    let express = false;
    for (const step of walk.steps) {
      const table = permissionsOf(step.id, false);
      const length = table === undefined ? 0 : this.#lengthOf(table, step.offset, CFG_SPACE_SIZE);
      this.#initial[link] = length === 0 ? step.next : step.offset;
      if (table === undefined || length === 0) {
        this.#hide(step, table, false);
        continue;
      }
      if (step.id === CapId.EXP || (step.id === CapId.PCIX && length === Pcix.SIZE_V2)) express = true;
      this.#place({ kind: 'capability', id: step.id, name: table.name, start: step.offset, length, why: table.why, raw: table.raw }, table);
      if (step.id === CapId.PM) this.#clearPme(step.offset);
      link = step.offset + CapHeader.NEXT;
      shown++;
    }
    if (walk.steps.length > 0 || walk.warnings.length > 0) this.#initial[link] = 0;
    if (shown === 0) this.#initial[Config.STATUS] = this.#initial[Config.STATUS]! & ~Status.CAP_LIST;
    return express;
  }

  extended(express: boolean): void {
    if (!express) return;
    const walk = walkExtendedCapabilities(this.#bytes);
    for (const warning of walk.warnings) this.#warn(warning);
    let link = 0;
    let shown = 0;
    for (const step of walk.steps) {
      const table = permissionsOf(step.id, true);
      const length = table === undefined ? 0 : this.#lengthOf(table, step.offset, this.#bytes.length);
      if (table === undefined || length === 0) {
        const hidden = this.#hide(step, table, true);
        if (link !== 0) continue;
        const placeholder: ConfigRegion = {
          kind: 'placeholder',
          id: 0,
          name: hidden.name,
          start: step.offset,
          length: ExtCapHeader.SIZE,
          why: PLACEHOLDER_WHY,
          raw: false,
        };
        this.#place(placeholder, undefined);
        this.#initialView.setUint32(step.offset, 0, true);
      } else {
        this.#place({ kind: 'extended', id: step.id, name: table.name, start: step.offset, length, why: table.why, raw: table.raw }, table);
        shown++;
      }
      if (link !== 0) this.#setNext(link, step.offset);
      link = step.offset;
    }
    if (link !== 0) this.#setNext(link, 0);
    if (shown === 0 && link !== 0) this.#initialView.setUint32(CFG_SPACE_SIZE, 0, true);
  }

  #setNext(header: number, next: number): void {
    const mask = ExtCapHeader.NEXT_MASK << ExtCapHeader.NEXT_SHIFT;
    const kept = this.#initialView.getUint32(header, true) & ~mask;
    this.#initialView.setUint32(header, (kept | (next << ExtCapHeader.NEXT_SHIFT)) >>> 0, true);
  }

  #clearPme(offset: number): void {
    const clear = (at: number, bits: number) => {
      if (at + 2 <= this.#initial.length) this.#initialView.setUint16(at, this.#initialView.getUint16(at, true) & ~bits, true);
    };
    clear(offset + Pm.PMC, Pm.PMC_PME_MASK);
    clear(offset + Pm.CTRL, Pm.CTRL_PME_ENABLE | Pm.CTRL_PME_STATUS);
  }

  /** A register of the capability at `start`; bytes beyond config space read all ones. */
  #reader(start: number): (offset: number, width: 1 | 2 | 4) => number {
    return (offset, width) => {
      let value = 0;
      for (let i = width - 1; i >= 0; i--) value = value * 256 + (this.#bytes[start + offset + i] ?? 0xff);
      return value;
    };
  }

  #lengthOf(table: CapabilityPermissions, start: number, end: number): number {
    const { length } = table;
    if (length.kind === 'hidden') return 0;
    const bytes = length.kind === 'fixed' ? length.bytes : length.of(this.#reader(start));
    const least = table.extended ? ExtCapHeader.SIZE : 2;
    if (bytes === 0) return 0;
    if (bytes < least) {
      this.#warn(`capability ${table.name} at ${hex(start)} says that it has ${bytes} bytes, less than its header`);
      return least;
    }
    if (start + bytes > end) {
      this.#warn(`capability ${table.name} at ${hex(start)} has ${bytes} bytes, beyond the end of config space; cut there`);
      return end - start;
    }
    return bytes;
  }

  #hide(step: WalkStep, table: CapabilityPermissions | undefined, extended: boolean): HiddenCapability {
    const why = table === undefined ? unknownCapabilityWhy : table.length.kind === 'hidden' ? table.why : 'it says that it has no bytes';
    const hidden = { id: step.id, extended, offset: step.offset, name: table?.name ?? `unknown ${hex(step.id)}`, why };
    this.hidden.push(hidden);
    return hidden;
  }

  #place(region: ConfigRegion, table: CapabilityPermissions | undefined): void {
    const { start, length } = region;
    const index = this.regions.push(region) - 1;
    const end = start + length;
    for (let at = start; at < end; at++) {
      const before = this.#regionOf[at]!;
      if (before !== 0 && (at === start || this.#regionOf[at - 1] !== before)) {
        this.#warn(`${region.name} at ${hex(start)} overlaps ${this.regions[before]!.name} at ${hex(at)}`);
      }
    }
    this.#regionOf.fill(index, start, end);
    this.#rowOf.fill(undefined, start, end);
    this.#virt.fill(0, start, end);
    this.#write.fill(table?.raw === true ? 0xff : 0, start, end);
    if (table?.raw === true) this.#write.fill(0, start, Math.min(end, start + (table.extended ? ExtCapHeader.SIZE : 2)));
    if (table === undefined) {
      this.#virt.fill(0xff, start, end);
      return;
    }
    const rows = typeof table.rows === 'function' ? table.rows(this.#reader(start)) : table.rows;
    for (const row of rows) {
      for (let i = 0; i < row.width; i++) {
        const at = start + row.offset + i;
        if (at >= end) break;
        this.#virt[at] = (row.virt >>> (8 * i)) & 0xff;
        this.#write[at] = (row.write >>> (8 * i)) & 0xff;
        this.#rowOf[at] = row;
      }
    }
  }
}

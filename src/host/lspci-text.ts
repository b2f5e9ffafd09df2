/**
 * The facts in what lspci prints, and in lists of groups as scripts print them, also where they
 * were pasted into a report: quoted, indented, with other text around them.
 */
import { VfioError } from '../base/errno.ts';
import { isBdf, parseBdf } from '../pci/bdf.ts';
import { Acs } from '../pci/capabilities/access-control.ts';
import { PciExpType } from '../pci/capabilities/pci-express-registers.ts';
import { classNames } from '../pci/class-names.ts';
import type { HostAcs, HostResource } from './host-picture.ts';
import { commandLineIn, recordedLines } from './recorded-lines.ts';

export interface LspciSriov {
  readonly totalVfs?: number;
  readonly numVfs?: number;
  readonly firstOffset?: number;
  readonly stride?: number;
  readonly vfDevice?: number;
  readonly bars: Resources;
}

/** One function of a text. Members that the text does not have are absent. */
export interface LspciFunction {
  readonly bdf: string;
  classCode?: number;
  vendor?: number;
  device?: number;
  revision?: number;
  name?: string;
  subsystemVendor?: number;
  subsystem?: number;
  group?: number;
  driver?: string;
  modules?: readonly string[];
  numaNode?: number;
  irq?: number;
  slot?: string;
  secondary?: number;
  /** The text has capabilities, or says that there are none. */
  capabilities?: true;
  /** Linux did not let lspci read them. */
  denied?: true;
  /** Port type of PCI Express. */
  express?: number;
  functionReset?: boolean;
  /** It has access control; `acs` has the registers where they are printed. */
  hasAcs?: true;
  acs?: HostAcs;
  sriov?: LspciSriov;
  resources: Resources;
  /** Bytes of a hex dump. */
  config?: Uint8Array;
}

export interface LspciText {
  readonly functions: readonly LspciFunction[];
  readonly notes: readonly string[];
  /** Release of the kernel, and its command line, where the text has them. */
  readonly kernel: string | null;
  readonly commandLine: string | null;
}

/** Quotation marks of mail, and blanks. */
const quotation = /^[\s>|]*/;
/** As many as a domain of PCI can have. */
const MAX_FUNCTIONS = 0x10000;
const MAX_MODULES = 64;
const header =
  /^(?:[-*]\s+)?(?:IOMMU[ _]group:?\s+(\d{1,9}):?\s+(?:\[[^\]]*\]\s+)?|Group Device:\s+)?((?:[0-9a-f]{4,8}:)?[0-9a-f]{2}:[0-1][0-9a-f]\.[0-7])\s+(?:-\s+)?(\S.*)$/i;
const groupTitle = /^(?:[-*#]+\s+)?IOMMU[ _]group:?\s+(\d{1,9})\s*:?\s*$/i;
const row = /^([0-9a-f]{2,3}):((?: [0-9a-f]{2}){1,16})\s*$/i;

const INTEL = 0x8086;
const number = (digits: string) => Number.parseInt(digits, 16);
/**
 * The functions of `text`, in its order. Of a function that is there more than once, all facts
 * count; from one with other ids on, the text is of another computer.
 */
export function parseLspci(text: string): LspciText {
  const parser = new LspciParser();
  let kernel: string | null = null;
  let commandLine: string | null = null;
  for (const line of recordedLines(text)) {
    if (line.includes('Linux ')) kernel ??= /\bLinux (?:version|\S+) (\d+\.\d+\S*)/.exec(line)?.[1] ?? null;
    commandLine ??= commandLineIn(line);
    parser.line(line.replace(quotation, ''));
  }
  return { functions: [...parser.functions.values()], notes: parser.notes, kernel, commandLine };
}

class LspciParser {
  readonly functions = new Map<string, LspciFunction>();
  readonly notes: string[] = [];
  #fn: LspciFunction | null = null;
  /** Of the title above, for lists of groups. */
  #group: number | null = null;
  /** The capability whose lines follow. */
  #capability = '';
  /** Lines of the function were there. */
  #detailed = false;
  /** The rest of the text is of another computer. */
  #ended = false;

  line(line: string): void {
    if (this.#ended) return;
    const title = groupTitle.exec(line);
    // Below the lines of a function the same words are its group.
    if (title !== null && !this.#detailed && !/^IOMMU group: /.test(line)) {
      this.#group = Number(title[1]);
      this.#fn = null;
      return;
    }
    const found = header.exec(line);
    const slot = /^(?:Slot|Device):\s+(\S+)$/.exec(line);
    const bytes = row.exec(line);
    if (found !== null) this.#begin(found[2]!, found[3]!, found[1] === undefined ? this.#group : Number(found[1]));
    else if (slot !== null && isBdf(slot[1]!)) this.#begin(slot[1]!, '', null);
    else if (line === '') this.#capability = '';
    else if (this.#fn === null) return;
    else if (bytes !== null) this.#bytes(this.#fn, number(bytes[1]!), bytes[2]!);
    else this.#attribute(this.#fn, line);
  }

  #begin(at: string, rest: string, group: number | null): void {
    this.#detailed = false;
    const bdf = parseBdf(at);
    const facts = titleFacts(rest);
    const known = this.functions.get(bdf);
    this.#capability = '';
    if (known !== undefined && conflict(known, facts)) {
      this.#fn = null;
      this.#ended = true;
      this.notes.push(`from a second function at ${bdf} on, the text is of another computer: only the text above it counts`);
      return;
    }
    const fn: LspciFunction = known ?? { bdf, resources: [] };
    if (this.functions.size > MAX_FUNCTIONS) throw new VfioError('EFBIG', `the text has more than ${MAX_FUNCTIONS} PCI functions`);
    Object.assign(fn, facts, group === null ? {} : { group });
    this.functions.set(bdf, fn);
    this.#fn = fn;
  }

  #bytes(fn: LspciFunction, at: number, text: string): void {
    if (at % 16 !== 0 || at >= 4096) return;
    const bytes = text.trim().split(' ').map(number);
    const size = [64, 256, 4096].find((s) => s >= at + bytes.length)!;
    if (fn.config === undefined || fn.config.length < size) {
      const larger = new Uint8Array(size).fill(0xff);
      larger.set(fn.config ?? []);
      fn.config = larger;
    }
    fn.config.set(bytes, at);
  }

  #attribute(fn: LspciFunction, line: string): void {
    this.#detailed = true;
    const capability = /^Capabilities: (?:<access denied>|\[[0-9a-f ]+(?: v\d+)?\]\s*(.*))/i.exec(line);
    if (capability !== null) {
      if (capability[1] === undefined) fn.denied = true;
      else this.#beginCapability(fn, capability[1]);
      return;
    }
    const sriov = this.#capability === 'sriov' ? sriovFacts(fn.sriov!, line) : null;
    if (sriov !== null) {
      fn.sriov = sriov;
      return;
    }
    for (const { pattern, facts } of attributes) {
      const match = pattern.exec(line);
      if (match === null) continue;
      Object.assign(fn, facts(match, fn));
      return;
    }
    if (this.#capability === 'express' && fn.functionReset === undefined) {
      const reset = /\bFLReset([+-])/.exec(line)?.[1];
      if (reset !== undefined) fn.functionReset = reset === '+';
    }
  }

  #beginCapability(fn: LspciFunction, title: string): void {
    fn.capabilities = true;
    this.#capability = '';
    const express = expressType(title);
    if (express !== null) {
      this.#capability = 'express';
      fn.express = express;
    } else if (/^Access Control Services/.test(title)) fn.hasAcs = true;
    else if (/^Single Root I\/O Virtualization/.test(title)) {
      this.#capability = 'sriov';
      fn.sriov ??= { bars: [] };
    }
  }
}

/** Two texts about one address that cannot be of one device. */
function conflict(a: Partial<LspciFunction>, b: Partial<LspciFunction>): boolean {
  const differ = (x: number | undefined, y: number | undefined) => x !== undefined && y !== undefined && x !== y;
  return differ(a.vendor, b.vendor) || differ(a.device, b.device);
}

/** `PCI bridge [0604]: Intel Corporation Root Port [8086:1901] (rev 07) (prog-if 00 [Normal])`. */
function titleFacts(title: string): Partial<LspciFunction> {
  const rest = title.replaceAll(/\s+/g, ' ');
  const revision = /\(rev ([0-9a-f]{2})\)/i.exec(rest)?.[1];
  const progIf = /\(prog-if ([0-9a-f]{2})/i.exec(rest)?.[1];
  const machine = [...rest.matchAll(/"([^"]*)"/g)].map((match) => match[1]!);
  if (rest.startsWith('"') && machine.length >= 3) return { ...machineFacts(machine), ...common(revision) };
  const numeric = /^(?:Class )?([0-9a-f]{4}): ([0-9a-f]{4}):([0-9a-f]{4})\b/i.exec(rest);
  if (numeric !== null) {
    return {
      classCode: classOf(number(numeric[1]!), progIf),
      vendor: number(numeric[2]!),
      device: number(numeric[3]!),
      ...common(revision),
    };
  }
  const ids = [...rest.matchAll(/\[([0-9a-f]{4}):([0-9a-f]{4})\]/gi)].at(-1);
  const titled = /^(.*?)\s*(?:\[([0-9a-f]{4})\])?(?::\s+|(?<=\])\s+)(.*)$/i.exec(rest);
  const code = titled?.[2] === undefined ? classByName(titled?.[1] ?? rest) : number(titled[2]);
  const name = (titled?.[3] ?? '')
    .replace(/\s*\[[0-9a-f]{4}:[0-9a-f]{4}\].*$/i, '')
    .replace(/\s*\((?:rev|prog-if) .*$/i, '')
    .trim();
  return {
    ...(code === undefined ? {} : { classCode: classOf(code, progIf) }),
    // Linux knows integrated endpoints of Intel by the vendor alone.
    ...(ids !== undefined ? { vendor: number(ids[1]!), device: number(ids[2]!) } : name.startsWith('Intel ') ? { vendor: INTEL } : {}),
    ...(name === '' ? {} : { name }),
    ...common(revision),
  };
}

const classOf = (code: number, progIf: string | undefined) => (code << 8) | (progIf === undefined ? 0 : number(progIf));

function common(revision: string | undefined): Partial<LspciFunction> {
  return revision === undefined ? {} : { revision: number(revision) };
}

/** The fields of `lspci -mm`: class, vendor, device. */
function machineFacts([className, vendor, device]: readonly string[]): Partial<LspciFunction> {
  const idIn = (text = '') => /(?:^|\[)([0-9a-f]{4})\]?$/i.exec(text)?.[1];
  const [code, vendorId, deviceId] = [idIn(className), idIn(vendor), idIn(device)];
  const classCode = code === undefined ? classByName(className ?? '') : number(code);
  const plain = (text = '') => text.replace(/\s*\[[0-9a-f]{4}\]$/i, '');
  return {
    ...(classCode === undefined ? {} : { classCode: classCode << 8 }),
    ...(vendorId === undefined ? {} : { vendor: number(vendorId) }),
    ...(deviceId === undefined ? {} : { device: number(deviceId) }),
    ...(vendorId !== undefined && /^[0-9a-f]{4}$/i.test(vendor ?? '') ? {} : { name: `${plain(vendor)} ${plain(device)}`.trim() }),
  };
}

let classes: ReadonlyMap<string, number> | undefined;

/** The class of a name that lspci prints without numbers. */
function classByName(name: string): number | undefined {
  if (classes === undefined) {
    const made = new Map<string, number>();
    for (const base of [...Array(0x14).keys(), 0x40, 0xff]) {
      for (let sub = 0; sub <= 0xff; sub++) {
        const of = classNames.subClass(base, sub)?.toLowerCase();
        if (of !== undefined && !made.has(of)) made.set(of, (base << 8) | sub);
      }
    }
    classes = made;
  }
  return classes.get(name.trim().toLowerCase());
}

const portNames: readonly (readonly [pattern: RegExp, type: number])[] = [
  [/Legacy Endpoint/, PciExpType.LEG_END],
  [/Root Complex Integrated Endpoint/, PciExpType.RC_END],
  [/Root Complex Event Collector/, PciExpType.RC_EC],
  [/Root Port/, PciExpType.ROOT_PORT],
  [/Upstream Port/, PciExpType.UPSTREAM],
  [/Downstream Port/, PciExpType.DOWNSTREAM],
  [/PCI-Express to PCI/, PciExpType.PCI_BRIDGE],
  [/PCI\/PCI-X to PCI-Express/, PciExpType.PCIE_BRIDGE],
  [/Endpoint/, PciExpType.ENDPOINT],
];

/** `Express (v2) Root Port (Slot+), MSI 00`; null for other capabilities. */
function expressType(title: string): number | null {
  const rest = /^Express (?:\(v\d+\) )?(.*)$/.exec(title)?.[1];
  if (rest === undefined) return null;
  return portNames.find(([pattern]) => pattern.test(rest))?.[1] ?? null;
}

/** Flags such as `SrcValid+ TransBlk-`, in the order of their bits. */
const acsFlags = ['SrcValid', 'TransBlk', 'ReqRedir', 'CmpltRedir', 'UpstreamFwd', 'EgressCtrl', 'DirectTrans'];

function acsBits(text: string): number {
  return acsFlags.reduce((bits, flag, i) => (text.includes(`${flag}+`) ? bits | (1 << i) : bits), 0);
}

interface Attribute {
  readonly pattern: RegExp;
  /** The facts of a line. */
  readonly facts: (match: RegExpExecArray, fn: LspciFunction) => Partial<LspciFunction>;
}

const attributes: readonly Attribute[] = [
  { pattern: /^IOMMU ?group:\s+(\d{1,9})\b/i, facts: ([, id]) => ({ group: Number(id) }) },
  { pattern: /^Flags:.*\bIOMMU group (\d{1,9})\b/, facts: ([, id]) => ({ group: Number(id) }) },
  { pattern: /^(?:Kernel driver in use|Driver):\s+(\S+)/i, facts: ([, driver]) => ({ driver: driver! }) },
  {
    pattern: /^(?:Kernel modules|Module):\s+(.*)/i,
    facts: ([, names], fn) => ({
      modules: [...(fn.modules ?? []), ...names!.split(/,\s*/).filter((name) => name !== '')].slice(0, MAX_MODULES),
    }),
  },
  { pattern: /^NUMA ?node:\s+(\d{1,9})\b/i, facts: ([, node]) => ({ numaNode: Number(node) }) },
  { pattern: /^(?:Physical Slot|PhySlot):\s+(\S+)/, facts: ([, slot]) => ({ slot: slot! }) },
  { pattern: /^Interrupts?:.*routed to IRQ (\d{1,9})\b/, facts: ([, irq]) => ({ irq: Number(irq) }) },
  { pattern: /^Bus: primary=[0-9a-f]{2}, secondary=([0-9a-f]{2})/i, facts: ([, bus]) => ({ secondary: number(bus!) }) },
  {
    pattern: /^Subsystem:.*?\[?\b([0-9a-f]{4}):([0-9a-f]{4})\]?/i,
    facts: ([, vendor, device]) => ({ subsystemVendor: number(vendor!), subsystem: number(device!) }),
  },
  { pattern: /^ACSCap:(.*)$/, facts: ([, flags], fn) => ({ acs: { capabilities: acsBits(flags!), control: fn.acs?.control ?? 0 } }) },
  { pattern: /^ACSCtl:(.*)$/, facts: ([, flags], fn) => ({ acs: { capabilities: fn.acs?.capabilities ?? 0, control: acsBits(flags!) } }) },
  { pattern: /^AFCap:.*\bFLR\+/, facts: () => ({ functionReset: true }) },
  { pattern: /^Status: Cap- /, facts: () => ({ capabilities: true }) },
  { pattern: /^(?:Region (\d): )?(Memory|I\/O ports) at (.*)$/, facts: (match, fn) => ({ resources: withRegion(fn.resources, match) }) },
  {
    pattern: /^Expansion ROM at (.*)$/,
    facts: ([, rest], { resources }) => ({ resources: put(resources, 6, resourceOf('Memory', rest!)) }),
  },
  { pattern: /^(Class|Vendor|Device|SVendor|SDevice|Rev):\s+(.*?)(?:\s*\[([0-9a-f]{4})\])?$/, facts: fieldFacts },
];

/** A line of `lspci -vmm`. */
function fieldFacts([, key, text, id]: RegExpExecArray, fn: LspciFunction): Partial<LspciFunction> {
  const code = id === undefined ? (/^[0-9a-f]{4}$/i.test(text!) ? number(text!) : undefined) : number(id);
  const isName = id !== undefined || code === undefined;
  switch (key) {
    case 'Class': {
      const found = code ?? classByName(text!);
      return found === undefined ? {} : { classCode: found << 8 };
    }
    case 'Rev':
      return { revision: number(text!) };
    case 'SVendor':
      return code === undefined ? {} : { subsystemVendor: code };
    case 'SDevice':
      return code === undefined ? {} : { subsystem: code };
    case 'Vendor':
      return { ...(code === undefined ? {} : { vendor: code }), ...(isName ? { name: text! } : {}) };
    default:
      return { ...(code === undefined ? {} : { device: code }), ...(isName ? { name: `${fn.name ?? ''} ${text}`.trim() } : {}) };
  }
}

const units: Readonly<Record<string, bigint>> = { '': 1n, K: 2n ** 10n, M: 2n ** 20n, G: 2n ** 30n, T: 2n ** 40n };

/** `f7cc0000 (64-bit, non-prefetchable) [disabled] [size=128K]`. */
function resourceOf(kind: string, rest: string): HostResource {
  const start = /^(?:0x)?([0-9a-f]{4,16})\b/i.exec(rest)?.[1];
  const size = /\[size=(\d{1,16})([KMGT]?)\]/.exec(rest);
  return {
    start: start === undefined ? null : BigInt(`0x${start}`),
    size: size === null ? null : BigInt(size[1]!) * units[size[2]!]!,
    kind: kind === 'Memory' ? 'memory' : 'io',
    wide: /64-bit/.test(rest),
    prefetchable: /[( ]prefetchable/.test(rest),
  };
}

type Resources = readonly (HostResource | null)[];

function put(resources: Resources, at: number, resource: HostResource): Resources {
  return Array.from({ length: Math.max(resources.length, at + 1) }, (_, i) => (i === at ? resource : (resources[i] ?? null)));
}

/** With -v regions have no numbers: each follows the one before, and a wide one takes two. */
function withRegion(resources: Resources, [, index, kind, rest]: RegExpExecArray): Resources {
  let at = Number(index ?? 0);
  if (index === undefined) while (resources[at] != null || resources[at - 1]?.wide === true) at++;
  return at > 5 ? resources : put(resources, at, resourceOf(kind!, rest!));
}

/** A line of an SR-IOV capability; null for others. */
function sriovFacts(sriov: LspciSriov, line: string): LspciSriov | null {
  const vfs = /^Initial VFs: \d+, Total VFs: (\d{1,5}), Number of VFs: (\d{1,5})\b/.exec(line);
  if (vfs !== null) return { ...sriov, totalVfs: Number(vfs[1]), numVfs: Number(vfs[2]) };
  const routing = /^VF offset: (\d{1,5}), stride: (\d{1,5}), Device ID: ([0-9a-f]{4})/i.exec(line);
  if (routing !== null) {
    return { ...sriov, firstOffset: Number(routing[1]), stride: Number(routing[2]), vfDevice: number(routing[3]!) };
  }
  const region = /^(?:Region (\d): )?(Memory|I\/O ports) at (.*)$/.exec(line);
  return region === null ? null : { ...sriov, bars: withRegion(sriov.bars, region) };
}

/** Whether registers of access control are known of a function, or that it has none. */
export function acsOf(fn: LspciFunction): HostAcs | null | undefined {
  if (fn.acs !== undefined) return fn.acs;
  const all = Acs.SV | Acs.RR | Acs.CR | Acs.UF;
  if (fn.hasAcs === true) return { capabilities: all, control: all };
  return fn.capabilities === true ? null : undefined;
}

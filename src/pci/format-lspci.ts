/**
 * The text of lspci (pciutils 3.14) for a decoded config space. Where lspci prints a wrong value
 * this prints the right one; the list, each with its reason, is a table of decode-lspci.test.ts.
 */
import { Command, HEADER_SIZE, Status } from '../abi/pci.ts';
import { choice, Decoding, hexDigits, sizeText } from './decode/text.ts';
import type { DecodedCardbus, DecodedConfig, DecodedRegion, DecodedWindow } from './decode.ts';
import type { DecodedId } from './pci-ids.ts';

export interface FormatOptions {
  /**
   * Numbers instead of names, like lspci -n (programming interfaces keep theirs). The default when
   * there are no names.
   */
  readonly numeric?: boolean;
  /** Write domain 0 too, as lspci does where other domains exist. Default: only other domains. */
  readonly domain?: boolean;
}

const choices = { devsel: choice(['fast', 'medium', 'slow', '??']) };
/** A line of flags without keeping its fields. */
const flags = (value: number, template: string): string => new Decoding(choices).text('', value, template);

const commandLine =
  '\tControl: I/O{0} Mem{1} BusMaster{2} SpecCycle{3} MemWINV{4} VGASnoop{5} ParErr{6} Stepping{7} SERR{8} FastB2B{9} DisINTx{10}';
const statusLine =
  '\tStatus: Cap{4} 66MHz{5} UDF{6} FastB2B{7} ParErr{8} DEVSEL={10:9 devsel} >TAbort{11} <TAbort{12} <MAbort{13} >SERR{14} <PERR{15} INTx{3}';
const secondaryStatusLine =
  '\tSecondary status: 66MHz{5} FastB2B{7} ParErr{8} DEVSEL={10:9 devsel} >TAbort{11} <TAbort{12} <MAbort{13} <SERR{14} <PERR{15}';
const bridgeControlLines = [
  '\tBridgeCtl: Parity{0} SERR{1} NoISA{2} VGA{3} VGA16{4} MAbort{5} >Reset{6} FastB2B{7}',
  '\t\tPriDiscTmr{8} SecDiscTmr{9} DiscTmrStat{10} DiscTmrSERREn{11}',
];

/** Of a CardBus bridge. */
const cardbusControlLine = '\tBridgeCtl: Parity{0} SERR{1} ISA{2} VGA{3} MAbort{5} >Reset{6} 16bInt{7} PostWrite{10}';

/**
 * Lines as lspci prints them: 0 the device's one line, 1 as `lspci -v`, 2 as `-vv`, 3 as `-vvv`.
 * Ends with a newline; at 1 and above with an empty line.
 */
export function formatLspci(decoded: DecodedConfig, verbosity: 0 | 1 | 2 | 3 = 0, options: FormatOptions = {}): string {
  const numeric = options.numeric ?? decoded.class.baseName === undefined;
  const lines = [titleLine(decoded, verbosity, numeric, options.domain === true)];
  if (verbosity === 0) return `${lines[0]}\n`;
  lines.push(...headerLines(decoded, verbosity, numeric), ...regionLines(decoded, verbosity));
  if (decoded.bridge !== null) lines.push(...bridgeLines(decoded, decoded.bridge, verbosity));
  else if (decoded.cardbus !== null) lines.push(...cardbusLines(decoded, decoded.cardbus, verbosity));
  else lines.push(...romLine(decoded));
  lines.push(...capabilityLines(decoded, verbosity, numeric));
  if (decoded.host.driver !== undefined) lines.push(`\tKernel driver in use: ${decoded.host.driver}`);
  return `${lines.join('\n')}\n\n`;
}

function titleLine(d: DecodedConfig, verbosity: number, numeric: boolean, domain: boolean): string {
  const bdf = !domain && d.bdf.startsWith('0000:') ? d.bdf.slice(5) : d.bdf;
  const code = hexDigits((d.class.base << 8) | d.class.sub, 4);
  const named = d.class.name ?? (d.class.baseName === undefined ? `Class ${code}` : `${d.class.baseName} [${code}]`);
  const revision = d.revision === 0 ? '' : ` (rev ${hexDigits(d.revision, 2)})`;
  const { progIf, progIfName } = d.class;
  const shownName = progIfName ?? (code === '0101' ? ideModes(progIf) : undefined);
  const known = shownName === undefined ? '' : ` [${shownName}]`;
  const shown = verbosity > 0 && (progIf !== 0 || known !== '') ? ` (prog-if ${hexDigits(progIf, 2)}${known})` : '';
  return `${bdf} ${numeric ? code : named}: ${idsText(d.vendor, d.device, numeric)}${revision}${shown}`;
}

/** The text for the programming interface of an IDE controller without a name in the database. */
function ideModes(progIf: number): string | undefined {
  if ((progIf & 0x70) !== 0) return undefined;
  const modes = [
    [0x80, 'Master'],
    [0x08, 'SecP'],
    [0x04, 'SecO'],
    [0x02, 'PriP'],
    [0x01, 'PriO'],
  ] as const;
  return modes
    .filter(([bit]) => (progIf & bit) !== 0)
    .map(([, name]) => name)
    .join(' ');
}

/**
 * "1af4:1100", or "Red Hat, Inc. Device 1100", or "Device 1234:11e8" where the database does not
 * have the vendor.
 */
function idsText(vendor: DecodedId, device: DecodedId, numeric: boolean): string {
  const digits = hexDigits(device.id, 4);
  if (numeric) return `${hexDigits(vendor.id, 4)}:${digits}`;
  if (vendor.name === undefined) return `Device ${hexDigits(vendor.id, 4)}:${digits}`;
  return `${vendor.name} ${device.name ?? `Device ${digits}`}`;
}

function headerLines(d: DecodedConfig, verbosity: number, numeric: boolean): string[] {
  const lines: string[] = [];
  const { kind, type } = d.header;
  const code = (d.class.base << 8) | d.class.sub;
  if (d.subsystem !== null) {
    lines.push(`\tSubsystem: ${idsText(d.subsystem.vendor, d.subsystem.device, numeric)}`);
  }
  // A bridge's header belongs to bridges, and the one kind of bridge that has a header of its own
  // cannot have another.
  if (kind === 'unknown') lines.push(`\t!!! Unknown header type ${hexDigits(type, 2)}`);
  else if (kind === 'endpoint' ? code === 0x0604 : d.class.base !== 0x06) {
    lines.push(`\t!!! Invalid class ${hexDigits(code, 4)} for header type ${hexDigits(type, 2)}`);
  }
  if (d.host.slot !== undefined) lines.push(`\tPhysical Slot: ${d.host.slot}`);
  const known = kind !== 'unknown';
  if (verbosity === 1) {
    if (known) lines.push(flagsLine(d));
  } else {
    if (known) {
      lines.push(flags(d.command, commandLine), flags(d.status, statusLine));
      if ((d.command & Command.MASTER) !== 0) lines.push(latencyLine(d));
    }
    const pin = known ? d.interrupt.pin : 0;
    const irq = d.host.irq ?? d.interrupt.line;
    if (pin !== 0 || irq !== 0) {
      // There are A to D; what else is there must not reach a terminal as a control character.
      const letter = pin === 0 || pin > 26 ? '?' : String.fromCharCode(0x40 + pin);
      lines.push(`\tInterrupt: pin ${letter} routed to IRQ ${irq}`);
    }
    if (d.host.numaNode !== undefined) lines.push(`\tNUMA node: ${d.host.numaNode}`);
    if (d.host.iommuGroup !== undefined) lines.push(`\tIOMMU group: ${d.host.iommuGroup}`);
  }
  if (known && (d.bist & 0x80) !== 0) {
    lines.push((d.bist & 0x40) !== 0 ? '\tBIST is running' : `\tBIST result: ${hexDigits(d.bist & 0x0f, 2)}`);
  }
  return lines;
}

function flagsLine(d: DecodedConfig): string {
  const words: string[] = [];
  if ((d.command & Command.MASTER) !== 0) words.push('bus master');
  if ((d.command & Command.VGA_PALETTE) !== 0) words.push('VGA palette snoop');
  if ((d.command & Command.WAIT) !== 0) words.push('stepping');
  if ((d.command & Command.FAST_BACK) !== 0) words.push('fast Back2Back');
  if ((d.status & Status.MHZ_66) !== 0) words.push('66MHz');
  if ((d.status & 0x40) !== 0) words.push('user-definable features');
  words.push(flags(d.status, '{devsel=10:9 devsel} devsel'));
  if ((d.command & Command.MASTER) !== 0) words.push(`latency ${d.latencyTimer}`);
  const irq = d.host.irq ?? d.interrupt.line;
  if (irq !== 0) words.push(`IRQ ${irq}`);
  if (d.host.numaNode !== undefined) words.push(`NUMA node ${d.host.numaNode}`);
  if (d.host.iommuGroup !== undefined) words.push(`IOMMU group ${d.host.iommuGroup}`);
  return `\tFlags: ${words.join(', ')}`;
}

/** Grant and latency are in quarters of a microsecond, cache lines in dwords. */
function latencyLine(d: DecodedConfig): string {
  const wishes: string[] = [];
  if (d.minGnt !== 0) wishes.push(`${d.minGnt * 250}ns min`);
  if (d.maxLat !== 0) wishes.push(`${d.maxLat * 250}ns max`);
  const wished = wishes.length > 0 ? ` (${wishes.join(', ')})` : '';
  const cache = d.cacheLineSize !== 0 ? `, Cache Line Size: ${d.cacheLineSize * 4} bytes` : '';
  return `\tLatency: ${d.latencyTimer}${wished}${cache}`;
}

const sizeSuffix = (size: number | undefined): string => (size === undefined || size === 0 ? '' : ` [size=${sizeText(BigInt(size))}]`);

function regionLines(d: DecodedConfig, verbosity: number): string[] {
  return d.regions.map((region) => {
    const prefix = verbosity > 1 ? `\tRegion ${region.index}: ` : '\t';
    return `${prefix}${regionText(region)}${region.virtual ? ' [virtual]' : ''}${region.disabled ? ' [disabled]' : ''}${sizeSuffix(region.size)}`;
  });
}

function regionText(region: DecodedRegion): string {
  const digits = (least: number): string =>
    region.address === null ? (region.ignored ? '<ignored>' : '<unassigned>') : region.address.slice(2).padStart(least, '0');
  if (region.kind === 'io') return `I/O ports at ${digits(4)}`;
  return `Memory at ${digits(8)} (${region.width}, ${region.prefetchable ? '' : 'non-'}prefetchable)`;
}

function romLine(d: DecodedConfig): string[] {
  const { rom } = d;
  if (rom === null) return [];
  const address = rom.ignored ? '<ignored>' : (rom.address?.slice(2).padStart(8, '0') ?? '<unassigned>');
  const off = !rom.enabled ? ' [disabled]' : (d.command & Command.MEMORY) === 0 ? ' [disabled by cmd]' : '';
  return [`\tExpansion ROM at ${address}${rom.virtual ? ' [virtual]' : ''}${off}${sizeSuffix(rom.size)}`];
}

const windowTitles = { io: 'I/O', memory: 'Memory', prefetchable: 'Prefetchable memory' } as const;

function windowLine(kind: keyof typeof windowTitles, window: DecodedWindow, verbosity: number): string {
  if ('unknownTypes' in window) {
    const what = { io: 'I/O', memory: 'memory', prefetchable: 'prefetchable memory' }[kind];
    return `\t!!! Unknown ${what} range types ${window.unknownTypes.join('/')}`;
  }
  const digits = window.bits / 4;
  const range = `${window.base.slice(2).padStart(digits, '0')}-${window.limit.slice(2).padStart(digits, '0')}`;
  const state = window.disabled ? `${verbosity > 2 ? `${range} ` : ''}[disabled]` : `${range} [size=${window.size}]`;
  return `\t${windowTitles[kind]} behind bridge: ${state} [${window.bits}-bit]`;
}

function bridgeLines(d: DecodedConfig, bridge: NonNullable<DecodedConfig['bridge']>, verbosity: number): string[] {
  const bus = (number: number): string => hexDigits(number, 2);
  const lines = [
    `\tBus: primary=${bus(bridge.primary)}, secondary=${bus(bridge.secondary)}, subordinate=${bus(bridge.subordinate)}, sec-latency=${bridge.latency}`,
  ];
  for (const kind of ['io', 'memory', 'prefetchable'] as const) lines.push(windowLine(kind, bridge.windows[kind], verbosity));
  if (verbosity > 1) lines.push(flags(bridge.status, secondaryStatusLine));
  lines.push(...romLine(d));
  if (verbosity > 1) lines.push(...bridgeControlLines.map((line) => flags(bridge.control, line)));
  return lines;
}

function cardbusLines(d: DecodedConfig, cardbus: DecodedCardbus, verbosity: number): string[] {
  const { primary, subordinate, latency } = cardbus;
  const bus = (number: number): string => hexDigits(number, 2);
  const lines = [
    `\tBus: primary=${bus(primary)}, secondary=${bus(cardbus.cardbus)}, subordinate=${bus(subordinate)}, sec-latency=${latency}`,
  ];
  for (const { kind, index, base, limit, prefetchable } of cardbus.windows) {
    // A window that forwards nothing is of little interest.
    if (verbosity < 3 && BigInt(base) > BigInt(limit)) continue;
    const enabled = (d.command & (kind === 'io' ? Command.IO : Command.MEMORY)) !== 0;
    const range = `${base.slice(2).padStart(8, '0')}-${limit.slice(2).padStart(8, '0')}`;
    const title = kind === 'io' ? 'I/O' : 'Memory';
    lines.push(`\t${title} window ${index}: ${range}${enabled ? '' : ' [disabled]'}${prefetchable ? ' (prefetchable)' : ''}`);
  }
  if ((cardbus.status & Status.SIG_SYSTEM_ERROR) !== 0) lines.push('\tSecondary status: SERR');
  if (verbosity > 1) lines.push(flags(cardbus.control, cardbusControlLine));
  if (cardbus.legacyBase === null) lines.push('\t<access denied to the rest>');
  else if (cardbus.legacyBase !== 0) lines.push(`\t16-bit legacy interface ports at ${hexDigits(cardbus.legacyBase, 4)}`);
  return lines;
}

function capabilityLines(d: DecodedConfig, verbosity: number, numeric: boolean): string[] {
  const lines: string[] = [];
  if (d.header.kind === 'unknown') return lines;
  if (d.size === HEADER_SIZE) return (d.status & Status.CAP_LIST) !== 0 ? ['\tCapabilities: <access denied>'] : lines;
  for (const extended of [false, true]) {
    const place = (offset: number, version: number): string =>
      `\tCapabilities: [${hexDigits(offset, extended ? 3 : 2)}${extended && verbosity > 1 ? ` v${version}` : ''}]`;
    for (const capability of extended ? d.extendedCapabilities : d.capabilities) {
      const ids = capability.subsystem;
      const plain = verbosity > 1 ? capability.fullTitle : capability.title;
      const title = ids === undefined ? plain : `Subsystem: ${idsText(ids.vendor, ids.device, numeric)}`;
      lines.push(`${place(capability.offset, capability.version)} ${title}`);
      if (verbosity > 1) lines.push(...capability.lines);
    }
    for (const end of d.chainEnds) if (end.extended === extended) lines.push(`${place(end.offset, end.version)} <chain ${end.why}>`);
  }
  return lines;
}

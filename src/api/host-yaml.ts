/** A machine file of a computer, for `vfio show --yaml`. */

import type { FunctionSpec, HostDriverSpec, IommuSpec, MachineSpec, ReservedWindow } from '../engine/machine/machine-spec.ts';
import type { Host } from '../host/host.ts';
import type { BarDeclaration } from '../pci/declaration.ts';

const COLUMNS = 140;

/**
 * The text of a machine file that makes the machine of `host`. The groups are in the file where
 * they do not follow from the devices, or have other numbers.
 */
export function hostYaml(host: Host): string {
  const { picture, spec } = host;
  const origin = picture.origin === 'this computer' ? 'a computer' : `a recording of a computer (${picture.source})`;
  const head = [
    `# Made by vfio show --yaml of ${origin}${picture.kernel === null ? '' : `, Linux ${oneLine(picture.kernel)}`}.`,
    '# Devices are stubs: their registers read as ones. Give one a `model` to have a device there.',
    ...host.notes.map((note) => `# ${oneLine(note)}`),
    ...host.differences.map(({ text }) => `# ${oneLine(text)}`),
  ];
  return `${[...head.flatMap(wrapped), ...machineLines(host.followsFromFabric ? withoutGroups(spec) : spec)].join('\n')}\n`;
}

function withoutGroups({ groups: _, ...rest }: MachineSpec): MachineSpec {
  return rest;
}

const oneLine = (text: string) => text.replaceAll(/\s+/g, ' ');

function wrapped(line: string): string[] {
  const lines: string[] = [];
  let rest = line;
  while (rest.length > 100) {
    const at = rest.lastIndexOf(' ', 100);
    if (at < 20) break;
    lines.push(rest.slice(0, at));
    rest = `# ${rest.slice(at + 1)}`;
  }
  return [...lines, rest];
}

/** A scalar that YAML reads as this text, whatever it looks like. */
function quoted(text: string): string {
  return /^[a-z][a-z0-9 _()/+-]*$/i.test(text) && !/^(true|false|null|yes|no|on|off|none|y|n)$/i.test(text) && !/\s$/.test(text)
    ? text
    : JSON.stringify(text);
}

const address = (value: bigint) => `0x${value.toString(16)}`;

type Pair = readonly [key: string, value: string];

const flow = (pairs: readonly Pair[]) => (pairs.length === 0 ? '{}' : `{ ${pairs.map(([key, value]) => `${key}: ${value}`).join(', ')} }`);
const flowList = (items: readonly string[]) => `[${items.join(', ')}]`;

function machineLines(spec: MachineSpec): string[] {
  const { name, recorded, iommu, iommus, groups, hostDrivers = [], params = {}, devices } = spec;
  return [
    `name: ${quoted(name ?? 'computer')}`,
    ...(recorded === true ? ['recorded: true'] : []),
    `iommu: ${flow(iommuPairs(iommu ?? {}))}`,
    ...(iommus === undefined
      ? []
      : ['iommus:', ...Object.entries(iommus).map(([of, unit]) => `  ${quoted(of)}: ${flow(iommuPairs(unit))}`)]),
    ...(Object.keys(params).length === 0
      ? []
      : [`params: ${flow(Object.entries(params).map(([key, value]) => [key, String(value)] as const))}`]),
    ...(hostDrivers.length === 0 ? [] : ['hostDrivers:', ...hostDrivers.flatMap(driverLines)]),
    ...(groups === undefined
      ? []
      : [
          'groups:',
          ...groups.flatMap(({ id, functions }) =>
            item(2, [
              ['id', String(id)],
              ['functions', flowList(functions.map((bdf) => `"${bdf}"`))],
            ]),
          ),
        ]),
    'devices:',
    ...devices.flatMap((one) => deviceLines(one, 2)),
  ];
}

function iommuPairs({ kind, isolatedMsi, reserved }: IommuSpec): Pair[] {
  return [
    ['kind', kind ?? 'full'],
    ...(isolatedMsi === undefined ? [] : [['isolatedMsi', String(isolatedMsi)] as const]),
    ...(reserved === undefined ? [] : [['reserved', windows(reserved)] as const]),
  ];
}

const windows = (list: readonly ReservedWindow[]) =>
  flowList(
    list.map(({ first, last, kind }) =>
      flow([
        ['first', address(first)],
        ['last', address(last)],
        ['kind', kind],
      ]),
    ),
  );

function driverLines({ name, ids, dma, sriov }: HostDriverSpec): string[] {
  return item(2, [
    ['name', quoted(name)],
    ...(ids === undefined ? [] : [['ids', flowList(ids.map((id) => `"${id}"`))] as const]),
    ...(dma === undefined ? [] : [['dma', dma] as const]),
    ...(sriov === undefined ? [] : [['sriov', String(sriov)] as const]),
  ]);
}

/** An item of a list: on one line where there is room, else a line for each key. */
function item(indent: number, pairs: readonly Pair[]): string[] {
  const blank = ' '.repeat(indent);
  const short = `${blank}- ${flow(pairs)}`;
  if (short.length <= COLUMNS) return [short];
  return pairs.map(([key, value], i) => `${blank}${i === 0 ? '- ' : '  '}${key}: ${value}`);
}

const barText = ({ index, size, type, prefetchable }: BarDeclaration) =>
  flow([
    ['index', String(index)],
    ['size', String(size)],
    ['type', type],
    ...(prefetchable === true ? [['prefetchable', 'true'] as const] : []),
  ]);

function devicePairs(fn: FunctionSpec): Pair[] {
  const {
    at,
    kind,
    name,
    id,
    subsystem,
    classCode,
    acs,
    reset,
    bars,
    sriov,
    numVfs,
    vfDriver,
    driver,
    driverOverride,
    iommu,
    reserved,
    bus,
  } = fn;
  const pairs: (Pair | null)[] = [
    ['at', at.includes(':') ? `"${at}"` : at],
    kind === undefined ? null : ['kind', kind],
    name === undefined ? null : ['name', quoted(name)],
    id === undefined ? null : ['id', `"${id}"`],
    subsystem === undefined ? null : ['subsystem', `"${subsystem}"`],
    classCode === undefined ? null : ['class', `"${classCode.toString(16).padStart(6, '0')}"`],
    acs === undefined ? null : ['acs', String(acs)],
    reset === undefined ? null : ['reset', reset],
    driver === undefined ? null : ['driver', driver === null ? 'none' : quoted(driver)],
    driverOverride === undefined ? null : ['driverOverride', quoted(driverOverride)],
    iommu === undefined ? null : ['iommu', quoted(iommu)],
    reserved === undefined ? null : ['reserved', windows(reserved)],
    bus === undefined ? null : ['bus', `0x${bus.toString(16).padStart(2, '0')}`],
    bars === undefined ? null : ['bars', flowList(bars.map(barText))],
    sriov === undefined
      ? null
      : [
          'sriov',
          flow([
            ['totalVfs', String(sriov.totalVfs)],
            ...(sriov.device === undefined ? [] : [['device', `"${sriov.device}"`] as const]),
            ...(sriov.firstOffset === undefined ? [] : [['firstOffset', String(sriov.firstOffset)] as const]),
            ...(sriov.stride === undefined ? [] : [['stride', String(sriov.stride)] as const]),
            ...(sriov.bars === undefined ? [] : [['bars', flowList(sriov.bars.map(barText))] as const]),
          ]),
        ],
    numVfs === undefined ? null : ['numVfs', String(numVfs)],
    vfDriver === undefined ? null : ['vfDriver', quoted(vfDriver)],
  ];
  return pairs.filter((pair) => pair !== null);
}

function deviceLines(fn: FunctionSpec, indent: number): string[] {
  const pairs = devicePairs(fn);
  if (fn.devices === undefined) return item(indent, pairs);
  const blank = ' '.repeat(indent);
  return [
    ...pairs.map(([key, value], i) => `${blank}${i === 0 ? '- ' : '  '}${key}: ${value}`),
    `${blank}  devices:`,
    ...fn.devices.flatMap((one) => deviceLines(one, indent + 4)),
  ];
}

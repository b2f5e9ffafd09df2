/** Trees of sysfs for tests: functions as a kernel shows them, in memory. */
import { Config, HeaderType } from '../../src/abi/pci.ts';
import type { FileEntry } from '../../src/sys/memory-files.ts';
import { MemoryFiles } from '../../src/sys/memory-files.ts';

export interface TreeFunction {
  readonly bdf: string;
  /** Folders above it: `pci0000:00/0000:00:1c.0`. Default: its root bus. */
  readonly below?: string;
  readonly files?: Readonly<Record<string, string | Uint8Array>>;
  readonly links?: Readonly<Record<string, string>>;
  readonly group?: number;
  readonly driver?: string;
}

const encoder = new TextEncoder();

/** A config space of `size` bytes with the registers that `set` puts into it. */
export function configBytes(size: number, set: (view: DataView) => void): Uint8Array {
  const bytes = new Uint8Array(size);
  set(new DataView(bytes.buffer));
  return bytes;
}

/** The files of a computer that has `functions`, and `more`: texts and links. */
export function hostTree(
  functions: readonly TreeFunction[],
  more: Readonly<Record<string, string | { readonly link: string }>> = {},
  groups = true,
): MemoryFiles {
  const entries: [string, FileEntry][] = groups ? [['/sys/kernel/iommu_groups', { directory: true }]] : [];
  const put = (path: string, content: string | Uint8Array) => {
    entries.push([path, { bytes: typeof content === 'string' ? encoder.encode(content) : content }]);
  };
  for (const { bdf, below = `pci${bdf.slice(0, 7)}`, files = {}, links = {}, group, driver } of functions) {
    const folder = `/sys/devices/${below}/${bdf}`;
    entries.push([`/sys/bus/pci/devices/${bdf}`, { link: `../../../devices/${below}/${bdf}` }]);
    const all = { vendor: '0x8086', device: '0x1234', class: '0x020000', ...files };
    for (const [name, content] of Object.entries(all)) put(`${folder}/${name}`, typeof content === 'string' ? `${content}\n` : content);
    for (const [name, link] of Object.entries(links)) entries.push([`${folder}/${name}`, { link }]);
    if (group !== undefined) {
      entries.push([`${folder}/iommu_group`, { link: `/sys/kernel/iommu_groups/${group}` }]);
      entries.push([`/sys/kernel/iommu_groups/${group}/devices/${bdf}`, { link: folder }]);
    }
    if (driver !== undefined) entries.push([`${folder}/driver`, { link: `/sys/bus/pci/drivers/${driver}` }]);
  }
  for (const [path, content] of Object.entries(more)) {
    if (typeof content === 'string') put(path, content);
    else entries.push([path, content]);
  }
  return new MemoryFiles('a tree', entries);
}

/**
 * The files of a computer from lines such as `pci0000:00/0000:00:1c.0 id=8086:a110 class=060400
 * bus=02 group=4 driver=pcieport`.
 */
export function hostTreeOf(lines: string): MemoryFiles {
  const functions = lines
    .trim()
    .split('\n')
    .map((line): TreeFunction => {
      const [path = '', ...facts] = line.split(' ');
      const of = new Map(facts.map((fact) => fact.split('=') as [string, string]));
      const [vendor, device] = of.get('id')!.split(':');
      const bus = of.get('bus');
      // As others than root read it: the header.
      const config = configBytes(64, (view) => {
        if (bus === undefined) return;
        view.setUint8(Config.HEADER_TYPE, HeaderType.BRIDGE);
        view.setUint8(Config.BRIDGE_SECONDARY_BUS, Number.parseInt(bus, 16));
      });
      const [group, driver] = [of.get('group'), of.get('driver')];
      return {
        bdf: path.slice(path.lastIndexOf('/') + 1),
        below: path.slice(0, path.lastIndexOf('/')),
        files: { vendor: `0x${vendor}`, device: `0x${device}`, class: `0x${of.get('class')}`, config },
        ...(group === undefined ? {} : { group: Number(group) }),
        ...(driver === undefined ? {} : { driver }),
      };
    });
  // A recording without groups has no folder of them either.
  return hostTree(
    functions,
    {},
    functions.some(({ group }) => group !== undefined),
  );
}

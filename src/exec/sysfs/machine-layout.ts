/**
 * The part of /sys and /dev that shows one machine: directories, links and files, as Linux names
 * them (recorded with Linux 7.3: tests/kernel-answers/).
 *
 * @see linux/Documentation/ABI/testing/sysfs-bus-pci, sysfs-kernel-iommu_groups,
 * sysfs-class-iommu, vfio-cdev
 */
import { VfioError } from '../../base/errno.ts';
import type { IommuProperties, ReservedKind } from '../../engine/dma/iommu-properties.ts';
import { nodeOf, pathOf } from '../../engine/machine/group-table.ts';
import type { Machine } from '../../engine/machine/machine.ts';
import type { FunctionGroup, PciBus, PciFunction } from '../../engine/machine/pci-function.ts';
import { VFIO_DEV_MAJOR, VFIO_MAJOR } from '../node-numbers.ts';
import { type Attribute, action, constant, live, writable } from './attribute.ts';
import { busAttributes, driverAttributes } from './bus-attributes.ts';
import { configFile } from './config-file.ts';
import { functionAttributes, unsigned } from './function-attributes.ts';
import { Layout } from './layout.ts';
import { barsOf } from './resource-lines.ts';
import { busPath, driverPath, functionPath, groupPath, modulePath, rootBusPath } from './sysfs-paths.ts';

/** Modules of VFIO, and the parameters that the engine does not have, with their values. */
const modules: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  vfio: {},
  vfio_pci: { disable_vga: 'N' },
  vfio_pci_core: {},
  vfio_iommu_type1: { disable_hugepages: 'N' },
  iommufd: {},
};

/** linux/drivers/iommu/iommu.c, iommu_group_resv_type_string[] */
const reservedNames: Readonly<Record<ReservedKind, string>> = {
  direct: 'direct',
  relaxable: 'direct-relaxable',
  reserved: 'reserved',
  msi: 'msi',
};

/** Registers of the recorded IOMMU (VT-d), below `intel-iommu`. */
const unitFiles = { address: 'fed90000', cap: '80d2008c222f0686', ecap: 'f00f4a', version: '1:0', domains_supported: '65536' };

export interface LayoutOptions {
  /** Processors of this computer as a list, such as `0-3`. */
  readonly cpus: string;
}

/** All files of `machine` as it is now. */
export function machineLayout(machine: Machine, { cpus }: LayoutOptions): Layout {
  const layout = new Layout();
  const functions = [...machine.functions.values()];
  addBus(layout, machine, functions);
  for (const bus of busesOf(functions)) addPciBus(layout, bus);
  for (const fn of functions) {
    addFunction(layout, fn, functionAttributes({ fn, machine, cpus }));
    if (fn.vfioIndex !== null) addVfioDevice(layout, fn, fn.vfioIndex);
  }
  addSlots(layout, machine, functions);
  addGroups(layout, [...machine.groups.values()]);
  addModules(layout, machine);
  for (const { path, mode, uid } of machine.nodes) layout.node(path, mode, uid);
  // A program that finds a function here finds all of its files.
  for (const fn of functions) layout.link(`/sys/bus/pci/devices/${fn.bdf}`, functionPath(fn));
  return layout;
}

/** The bus of each function, and those behind bridges. */
function busesOf(functions: readonly PciFunction[]): ReadonlySet<PciBus> {
  const buses = functions.flatMap((fn) => [fn.bus.root, ...(fn.secondary === null ? [] : [fn.secondary])]);
  return new Set(buses);
}

function addPciBus(layout: Layout, bus: PciBus): void {
  const at = busPath(bus);
  layout.link(`/sys/class/pci_bus/${bus.name}`, at);
  layout.link(`${at}/subsystem`, '/sys/class/pci_bus');
  layout.file(`${at}/uevent`, constant('\n', 0o644));
  layout.file(
    `${at}/rescan`,
    action((text) => void unsigned(text)),
  );
  if (bus.bridge === null) layout.file(`${rootBusPath(bus)}/uevent`, constant('', 0o644));
}

function addFunction(layout: Layout, fn: PciFunction, attributes: ReadonlyMap<string, Attribute>): void {
  const at = functionPath(fn);
  for (const [name, attribute] of attributes) layout.file(`${at}/${name}`, attribute);
  layout.file(`${at}/config`, configFile(fn.config));
  for (const bar of barsOf(fn)) layout.file(`${at}/resource${bar.index}`, barFile(fn, bar.index, bar.size));
  layout.link(`${at}/subsystem`, '/sys/bus/pci');
  if (fn.driver !== null) {
    layout.link(`${at}/driver`, driverPath(fn.driver));
    layout.link(`${driverPath(fn.driver)}/${fn.bdf}`, at);
  }
  if (fn.group !== null) {
    layout.link(`${at}/iommu_group`, groupPath(fn.group.id));
    layout.link(`${groupPath(fn.group.id)}/devices/${fn.bdf}`, at);
  }
  if (fn.physical !== null) layout.link(`${at}/physfn`, functionPath(fn.physical));
  for (const vf of fn.vfs) layout.link(`${at}/virtfn${vf.vfIndex}`, functionPath(vf));
}

/** A BAR's file. It is there for its size: no program maps a BAR by sysfs. */
function barFile(fn: PciFunction, index: number, size: number): Attribute {
  const show = () => {
    throw new VfioError('EPERM', `BAR ${index} of ${fn.bdf} is reached by VFIO only`, {
      fix: `Open /dev/vfio/${fn.group?.id ?? 'GROUP'}, and read, write or map the region.`,
    });
  };
  return { mode: 0o600, size, show, store: null };
}

function addVfioDevice(layout: Layout, fn: PciFunction, index: number): void {
  const name = nodeOf(fn);
  const at = `${functionPath(fn)}/vfio-dev/${name}`;
  layout.link(`/sys/class/vfio-dev/${name}`, at);
  layout.file(`${at}/dev`, constant(`${VFIO_DEV_MAJOR}:${index}\n`));
  layout.file(`${at}/uevent`, constant(deviceEvent(VFIO_DEV_MAJOR, index, `vfio/devices/${name}`), 0o644));
  layout.link(`${at}/device`, functionPath(fn));
  layout.link(`${at}/subsystem`, '/sys/class/vfio-dev');
  layout.folder(`${at}/power`);
}

/** MAJOR, MINOR and DEVNAME of a node, for udev. */
const deviceEvent = (major: number, minor: number, name: string): string => `MAJOR=${major}\nMINOR=${minor}\nDEVNAME=${name}\n`;

function addBus(layout: Layout, machine: Machine, functions: readonly PciFunction[]): void {
  for (const folder of ['devices', 'drivers', 'slots']) layout.folder(`/sys/bus/pci/${folder}`);
  for (const name of ['vfio', 'vfio-dev', 'iommu', 'pci_bus']) layout.folder(`/sys/class/${name}`);
  for (const [name, attribute] of busAttributes(machine)) layout.file(`/sys/bus/pci/${name}`, attribute);
  const drivers = new Set([...machine.drivers.known, ...functions.flatMap(({ driver }) => driver ?? [])]);
  for (const driver of drivers) {
    for (const [name, attribute] of driverAttributes(machine, driver)) layout.file(`${driverPath(driver)}/${name}`, attribute);
  }
}

/** A hot-plug slot for each port that has one: the device that can be in it. */
function addSlots(layout: Layout, machine: Machine, functions: readonly PciFunction[]): void {
  let number = 0;
  for (const port of functions) {
    const bus = port.secondary;
    if (!port.slot || bus === null) continue;
    const at = `/sys/bus/pci/slots/${++number}`;
    layout.file(`${at}/address`, constant(`${bus.name}:00\n`));
    layout.file(
      `${at}/adapter`,
      live(() => `${bus.functions.length > 0 ? 1 : 0}\n`),
    );
    const power = (text: string) => {
      if (unsigned(text) !== 0) return;
      return Promise.all(bus.functions.map((fn) => machine.remove(fn.bdf))).then(() => undefined);
    };
    layout.file(
      `${at}/power`,
      writable(() => `${bus.functions.length > 0 ? 1 : 0}\n`, power),
    );
  }
}

function addGroups(layout: Layout, groups: readonly FunctionGroup[]): void {
  layout.folder('/sys/kernel/iommu_groups');
  layout.folder('/sys/devices/virtual/vfio');
  layout.folder('/sys/devices/virtual/iommu');
  const units = new Map<IommuProperties['unit'], string>();
  for (const group of [...groups].sort((a, b) => a.id - b.id)) {
    const at = groupPath(group.id);
    layout.folder(`${at}/devices`);
    if (group.noIommu) layout.file(`${at}/name`, constant('vfio-noiommu\n'));
    layout.file(`${at}/type`, constant(group.noIommu ? 'unknown\n' : 'DMA-FQ\n', 0o644));
    layout.file(
      `${at}/reserved_regions`,
      live(() => reservedLines(group)),
    );
    if (group.vfioFunctions.length > 0) addGroupDevice(layout, group);
    if (group.noIommu) continue;
    const { unit } = group.iommu;
    const name = units.get(unit) ?? `dmar${units.size}`;
    if (!units.has(unit)) addUnit(layout, name);
    units.set(unit, name);
    for (const fn of group.functions) {
      layout.link(`${functionPath(fn)}/iommu`, `/sys/devices/virtual/iommu/${name}`);
      layout.link(`/sys/devices/virtual/iommu/${name}/devices/${fn.bdf}`, functionPath(fn));
    }
  }
}

function reservedLines({ iommu }: FunctionGroup): string {
  const address = (value: bigint) => `0x${value.toString(16).padStart(16, '0')}`;
  const regions = [...iommu.reserved].sort((a, b) => (a.first < b.first ? -1 : 1));
  return regions.map(({ first, last, kind }) => `${address(first)} ${address(last)} ${reservedNames[kind]}\n`).join('');
}

function addGroupDevice(layout: Layout, group: FunctionGroup): void {
  const name = pathOf(group).slice('/dev/vfio/'.length);
  const at = `/sys/devices/virtual/vfio/${name}`;
  layout.link(`/sys/class/vfio/${name}`, at);
  layout.file(`${at}/dev`, constant(`${VFIO_MAJOR}:${group.id}\n`));
  layout.file(`${at}/uevent`, constant(deviceEvent(VFIO_MAJOR, group.id, `vfio/${name}`), 0o644));
  layout.link(`${at}/subsystem`, '/sys/class/vfio');
  layout.folder(`${at}/power`);
}

function addUnit(layout: Layout, name: string): void {
  const at = `/sys/devices/virtual/iommu/${name}`;
  layout.link(`/sys/class/iommu/${name}`, at);
  layout.link(`${at}/subsystem`, '/sys/class/iommu');
  layout.file(`${at}/uevent`, constant('', 0o644));
  for (const [file, value] of Object.entries(unitFiles)) layout.file(`${at}/intel-iommu/${file}`, constant(`${value}\n`));
}

function addModules(layout: Layout, machine: Machine): void {
  for (const [name, fixed] of Object.entries(modules)) {
    const at = modulePath(name);
    layout.file(`${at}/initstate`, constant('live\n'));
    layout.file(`${at}/refcnt`, constant('0\n'));
    layout.folder(`${at}/holders`);
    for (const [parameter, value] of Object.entries(fixed)) layout.file(`${at}/parameters/${parameter}`, constant(`${value}\n`));
  }
  for (const { linux, fixedBecause } of machine.params) {
    if (linux === null) continue;
    const [module, parameter] = linux.split('.');
    const show = () => {
      const { value } = machine.params.find((state) => state.linux === linux)!;
      return `${typeof value === 'boolean' ? (value ? 'Y' : 'N') : value}\n`;
    };
    const store = (text: string) => machine.setParam(linux, text);
    const attribute = fixedBecause === null ? writable(show, store) : live(show);
    layout.file(`${modulePath(module!)}/parameters/${parameter}`, attribute);
  }
  layout.link(`${modulePath('vfio_pci')}/drivers/pci:vfio-pci`, driverPath('vfio-pci'));
  layout.link(`${driverPath('vfio-pci')}/module`, modulePath('vfio_pci'));
}

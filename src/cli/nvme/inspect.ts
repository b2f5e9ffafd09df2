/**
 * `vfio nvme list`, `id`, `smart`: what a controller says of itself, for people and for programs.
 */
import { printedAddress } from '../../api/address.ts';
import type { DeviceAccess } from '../device-access.ts';
import { controllerRows, formatOf, namespaceRows } from './describe-identify.ts';
import { type ListedNamespace, listLines } from './describe-list.ts';
import { isCritical, smartRows } from './describe-smart.ts';
import { openNvme } from './open-nvme.ts';
import { plain, rowLines } from './rows.ts';

/** A report: lines for people, one document for programs. */
export interface Report {
  readonly lines: readonly string[];
  readonly document: object;
}

export async function list(addresses: readonly string[], access?: DeviceAccess): Promise<Report> {
  const namespaces: ListedNamespace[] = [];
  for (const address of addresses) {
    await using driver = await openNvme(address, access);
    const { serial, model, firmware } = driver.controller;
    for (const ns of driver.namespaces) {
      const { data, metadata } = formatOf(ns.identify);
      namespaces.push({
        address: printedAddress(address),
        serial,
        model,
        firmware,
        namespace: ns.id,
        used: Number(ns.identify.nuse) * data,
        size: Number(ns.identify.nsze) * data,
        blockSize: data,
        metadataSize: metadata,
      });
    }
  }
  return { lines: listLines(namespaces), document: { namespaces } };
}

/** @param namespace  one namespace. Default: all */
export async function identify(address: string, namespace?: number, access?: DeviceAccess): Promise<Report> {
  await using driver = await openNvme(address, access);
  const { controller, dev } = driver;
  const wanted = namespace === undefined ? driver.namespaces : [driver.namespace(namespace)];
  return {
    lines: [
      `controller ${dev.name}`,
      ...rowLines(controllerRows(controller.identify, controller.mdtsBytes)),
      ...wanted.flatMap((ns) => ['', `namespace ${ns.id}`, ...rowLines(namespaceRows(ns.identify))]),
    ],
    document: {
      address: dev.name,
      version: driver.version,
      controller: plain(controller.identify),
      namespaces: wanted.map((ns) => ({ namespace: ns.id, ...plain(ns.identify) })),
    },
  };
}

/** `critical`: the controller says that something is wrong. */
export async function smart(address: string, access?: DeviceAccess): Promise<Report & { readonly critical: boolean }> {
  await using driver = await openNvme(address, access);
  const log = await driver.smart();
  return {
    lines: [`SMART / Health Information of ${driver.dev.name}`, ...rowLines(smartRows(log))],
    document: { address: driver.dev.name, ...plain(log) },
    critical: isCritical(log),
  };
}

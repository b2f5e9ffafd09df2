/**
 * Every message of the protocol, one row each. Server, `vfio trace` and the dissector for Wireshark
 * follow from this table. To add a message: a file of this folder with its row, and a line here.
 */
import { deviceInfo } from './device-info.ts';
import { dirtyPages } from './dirty-pages.ts';
import { dmaRead, dmaWrite } from './dma-access.ts';
import { dmaMap } from './dma-map.ts';
import { dmaUnmap } from './dma-unmap.ts';
import { deviceFeature } from './feature.ts';
import { irqInfo } from './irq-info.ts';
import type { Message } from './message.ts';
import { migDataRead, migDataWrite } from './mig-data.ts';
import { precopyInfo } from './precopy-info.ts';
import { regionRead, regionWrite } from './region-access.ts';
import { regionInfo } from './region-info.ts';
import { regionIoFds } from './region-io-fds.ts';
import { reset } from './reset.ts';
import { setIrqs } from './set-irqs.ts';
import { version } from './version.ts';
import { writeMulti } from './write-multi.ts';

const rows = [
  version,
  dmaMap,
  dmaUnmap,
  deviceInfo,
  regionInfo,
  regionIoFds,
  irqInfo,
  setIrqs,
  regionRead,
  regionWrite,
  dmaRead,
  dmaWrite,
  reset,
  dirtyPages,
  writeMulti,
  deviceFeature,
  migDataRead,
  migDataWrite,
  precopyInfo,
] as const;
type Row = (typeof rows)[number];

export const messages: readonly Message[] = rows;

/** `Command.DMA_MAP`: the number of each message by its name. */
export const Command = Object.fromEntries(rows.map(({ name, number }) => [name, number])) as {
  readonly [R in Row as R['name']]: R['number'];
};
export type Command = Row['number'];

const byNumber: (Message | undefined)[] = [];
for (const row of messages) {
  if (byNumber[row.number] !== undefined) throw new Error(`${row.name} has the number of ${byNumber[row.number]!.name}`);
  byNumber[row.number] = row;
}

/** Undefined for a number that no message has. Allocates nothing. */
export function messageOf(command: number): Message | undefined {
  return command < byNumber.length ? byNumber[command] : undefined;
}

/** `REGION_READ`; `command 99` for a number that no message has. */
export function commandName(command: number): string {
  return messageOf(command)?.name ?? `command ${command}`;
}

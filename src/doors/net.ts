/**
 * The door to network cards: the driver of Intel's 82576 and of its virtual functions, for models
 * and for other people's cards.
 *
 *     import { startPort } from 'vfio-ts/net';
 *
 * @module vfio-ts/net
 */

export { RxInfo, RxStatus } from '../abi/82576-descriptors.ts';
export type { Link, PortEvent, PortListener, PortState } from '../drivers/82576/events.ts';
export type { Frame } from '../drivers/82576/frames.ts';
export type { PortOptions, RssFields, RssOptions } from '../drivers/82576/options.ts';
export { PhysicalPort } from '../drivers/82576/physical-port.ts';
export { type FramesOptions, Port } from '../drivers/82576/port.ts';
export type { ReceiveQueue } from '../drivers/82576/receive-queue.ts';
export type { SendOptions } from '../drivers/82576/send-queue.ts';
export type { VirtualFunctionState } from '../drivers/82576/served-function.ts';
export type { SignalKind } from '../drivers/82576/signals.ts';
export { PORT_IDS, startPort } from '../drivers/82576/start-port.ts';
export type { PortStatistics } from '../drivers/82576/statistics.ts';
export { contextLengths, contextSegments, TransmitFlag, type TransmitQueue } from '../drivers/82576/transmit-queue.ts';
export { VirtualFunctions } from '../drivers/82576/virtual-functions.ts';
export { VirtualPort } from '../drivers/82576/virtual-port.ts';

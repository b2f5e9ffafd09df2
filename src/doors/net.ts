/**
 * The door to network cards: the driver of Intel's 82576 and of its virtual functions, for models
 * and for other people's cards; the model, and the wires that its port is plugged into.
 *
 *     import { startPort } from 'vfio-ts/net';
 *
 * @module vfio-ts/net
 */

export { RxInfo, RxStatus } from '../abi/82576-descriptors.ts';
export { Loss, type Losses, MAX_FRAME, type Wire, type WireCounters, type WireEnd, type WirePort } from '../abi/wire.ts';
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
export { type Intel82576Options, intel82576 } from '../models/82576/82576.ts';
export { cable } from '../models/wires/cable.ts';
export type { FabricOptions } from '../models/wires/fabric.ts';
export { hub, learningSwitch, type SharedWire, type SwitchOptions } from '../models/wires/hub.ts';
export { impaired } from '../models/wires/impaired.ts';
export type { Impairments } from '../models/wires/lane.ts';
export { type CaptureOptions, captured } from '../sys/wires/capture.ts';
export type { HostWireOptions } from '../sys/wires/host-wire.ts';
export { datagramWire, descriptorWire, streamWire, tapWire } from '../sys/wires/open-wire.ts';
export { type Pace, type RecordedOptions, recordedWire } from '../sys/wires/recorded-frames.ts';

/**
 * The messages of the protocol: their table, encoders and decoders. Decoders look at lengths and at
 * everything that can be said without a device, and throw the errno to answer; they never read past
 * the payload. Register accesses and DMA by message do not come through the encoders here: both
 * ends read and write them in place.
 *
 * A payload is what follows the header; `encode…` makes a fresh one. How to add a message:
 * messages/table.ts.
 */

export { viewOf } from '../base/data-view.ts';
export * from './messages/adoption.ts';
export type {
  DirtyPagesRequest,
  DmaMapRequest,
  DmaUnmapRequest,
  FeatureMessage,
  IrqInfoReply,
  SetIrqsRequest,
} from './messages/answer-context.ts';
export * from './messages/device-info.ts';
export * from './messages/dirty-pages.ts';
export * from './messages/dma-access.ts';
export * from './messages/dma-map.ts';
export * from './messages/dma-unmap.ts';
export * from './messages/feature.ts';
export { UserDmaLoggingControl, UserDmaLoggingReport } from './messages/feature-shapes.ts';
export * from './messages/header.ts';
export * from './messages/irq-info.ts';
export * from './messages/mig-data.ts';
export * from './messages/precopy-info.ts';
export * from './messages/reason.ts';
export * from './messages/region-access.ts';
export * from './messages/region-info.ts';
export * from './messages/region-io-fds.ts';
export * from './messages/set-irqs.ts';
export { Command, commandName, messageOf, messages } from './messages/table.ts';
export * from './messages/version.ts';
export * from './messages/write-multi.ts';

/**
 * Every message of the protocol, encoded and decoded. Decoders look at lengths and at everything that can be said without a device, and throw
 * the errno to answer; they never read past the payload. Register accesses and DMA by message do not come through here but are read and written in
 * place, with `RegionAccess` and `DmaAccess` of abi/vfio-user.ts; VERSION is in version.ts.
 *
 * A payload is what follows the header: `encode…` makes a fresh one. To add a message: its number and layout go into abi/vfio-user.ts, encoder and
 * decoder into the file of its subject here, what a server does about it into `Attachment.answer` of server/, and how it is shown into cli/trace.
 */
export * from './messages/adoption.ts';
export * from './messages/device-info.ts';
export * from './messages/dma.ts';
export * from './messages/features.ts';
export * from './messages/irqs.ts';
export * from './messages/message.ts';
export { viewOf } from './messages/payload.ts';
export * from './messages/reason.ts';
export * from './messages/region-access.ts';
export * from './messages/region-info.ts';

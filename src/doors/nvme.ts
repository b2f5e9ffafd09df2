/**
 * The door to NVMe: the driver, for models and for other people's controllers, and the controller.
 *
 *     import { NvmeDriver } from 'vfio-ts/nvme';
 *
 * @module vfio-ts/nvme
 */

export type { SmartLog } from '../abi/nvme-structs.ts';
export type { Storage, StorageCompleted, StorageQueue } from '../abi/storage.ts';
export type { CommandRequest, GetFeatureOptions, LogOptions, SetFeatureOptions } from '../drivers/nvme/admin.ts';
export type { ControllerInfo } from '../drivers/nvme/controller-info.ts';
export { type CommandNames, NvmeError } from '../drivers/nvme/errors.ts';
export type { NvmeEvent, NvmeListener } from '../drivers/nvme/events.ts';
export type { IoQueue } from '../drivers/nvme/io-queue.ts';
export type { BlockRange, NvmeNamespace, WriteOptions } from '../drivers/nvme/namespace.ts';
export type { NamespaceChanges } from '../drivers/nvme/namespace-list.ts';
export { type FormatOptions, NvmeDriver, type NvmeDriverOptions } from '../drivers/nvme/nvme-driver.ts';
export type { Submission } from '../drivers/nvme/submission.ts';
export type { NamespaceOptions } from '../models/nvme/namespace.ts';
export { type NvmeOptions, type NvmeVirtualFunctions, nvme } from '../models/nvme/nvme.ts';
export { MemoryStorage } from '../models/storage/memory-storage.ts';

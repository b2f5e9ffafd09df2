/**
 * The result of opening a device of the kernel, whichever way it was opened: `KernelDevice` is made
 * of it.
 */
import type { EventSource } from '../events/source.ts';
import type { KernelFile } from '../sys/kernel-file.ts';
import type { KernelDmaSpace } from './dma-space.ts';
import type { KernelSpace } from './kernel-space.ts';
import type { KernelRoots } from './location.ts';

/**
 * The ways to a device: by its group's file and a container, or by its own file and an iommufd;
 * and both without an IOMMU.
 */
export type OpenedVia = 'group' | 'cdev' | 'noiommu-group' | 'noiommu-cdev';

/** A device of the kernel, as `open` knows it. */
export type KernelAddress =
  | { readonly kind: 'pci'; readonly bdf: string }
  /** A mediated device, by the UUID that it was created with. */
  | { readonly kind: 'mdev'; readonly uuid: string };

/** How a device of the kernel is opened. */
export interface KernelOptions {
  /** Where the open and the mappings are reported. */
  readonly source: EventSource;
  /** Default: cdev where the computer has it, else group. */
  readonly via?: 'group' | 'cdev' | undefined;
  /** Also a device without an IOMMU, which can write anywhere in memory. Default: false. */
  readonly unsafeNoIommu?: boolean | undefined;
  /** VF token, a UUID. */
  readonly token?: string | undefined;
  /** The space of an open device, to share its container or its address space. */
  readonly space?: KernelSpace | undefined;
  /** Default: those of this computer. */
  readonly roots?: KernelRoots | undefined;
}

/** The proof that this process owns a device, for a reset of its bus. */
export type OwnershipProof =
  /** The group's file. */
  | { readonly kind: 'group'; readonly group: number; readonly file: KernelFile }
  /** The number of the device in its iommufd. */
  | { readonly kind: 'iommufd'; readonly deviceId: number };

/**
 * An open device. Dispose closes in the order of S2-30: the device's file, its group, and the
 * container or iommufd with the last device in it.
 */
export interface OpenedFile extends Disposable {
  /** `0000:03:00.0`, or an mdev's UUID. */
  readonly name: string;
  readonly via: OpenedVia;
  /** Why this way: one sentence. */
  readonly why: string;
  readonly file: KernelFile;
  /** The device's own view of `space.shared`. */
  readonly space: KernelDmaSpace;
  readonly proof: OwnershipProof;
}

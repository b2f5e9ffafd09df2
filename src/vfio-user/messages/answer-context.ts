/** The port on which rows answer a client's commands, and the requests that go through it. */
import type { Doorbell, PrecopyInfo, RegionInfo } from '../../abi/device.ts';
import type { OwnedFd } from '../../sys/owned-fd.ts';
import type { FrameWriter } from '../frame-writer.ts';
import type { FrameReader } from '../frames.ts';

/** A reply: its payload, and the descriptors that go with it. */
export interface Answer {
  readonly payload: Uint8Array;
  readonly fds?: readonly OwnedFd[];
}

/** A client's device, as answers need it. Each method throws the VfioError that is the answer. */
export interface AnswerContext {
  readonly device: {
    readonly info: { readonly flags: number; readonly numRegions: number; readonly numIrqs: number };
    reset(): void;
  };
  readonly mappings: {
    map(request: DmaMapRequest, fds: readonly OwnedFd[]): void;
    /** @returns the bitmap, where the request asks for one */
    unmap(request: DmaUnmapRequest): Uint8Array | undefined;
    /** As `unmap`. */
    dirtyPages(request: DirtyPagesRequest): Uint8Array | undefined;
  };
  readonly irqs: {
    info(index: number): IrqInfoReply;
    set(request: SetIrqsRequest, fds: readonly OwnedFd[]): void;
  };
  readonly regionFiles: {
    /** A region as the client may see it, and the file behind it, where the client may map one. */
    region(index: number): { readonly info: RegionInfo; readonly file: RegionFile | null };
    /** Doorbells of a region. `open` makes eventfds for them, which the caller owns. */
    doorbells(index: number): { readonly bells: readonly Doorbell[]; open(): readonly OwnedFd[] };
  };
  readonly stream: {
    /**
     * At most `size` bytes of the state of a device that is saved; none when there are none now.
     */
    read(size: number): Uint8Array;
    write(data: Uint8Array): void;
    precopyInfo(): PrecopyInfo;
  };
  readonly features: {
    feature(request: FeatureMessage, fds: readonly OwnedFd[]): Answer;
  };
}

export interface RegionFile {
  /** Where in the file the region starts. */
  readonly offset: number;
  duplicateFd(): OwnedFd;
}

/** Register accesses, as `inPlace` of their rows does them. */
export interface InPlace {
  read(reader: FrameReader, writer: FrameWriter): number;
  write(reader: FrameReader, writer: FrameWriter): number;
  writeMulti(reader: FrameReader, writer: FrameWriter): number;
}

export interface DmaMapRequest {
  /** `UserDmaMapFlags` */
  readonly flags: number;
  /** In the file that comes along. */
  readonly offset: bigint;
  readonly address: bigint;
  readonly size: bigint;
}

export interface DmaUnmapRequest {
  /** `DmaUnmapFlags` */
  readonly flags: number;
  readonly address: bigint;
  readonly size: bigint;
  /** With GET_DIRTY_BITMAP: bytes that one bit stands for, and bytes of the bitmap. */
  readonly bitmap?: { readonly pgsize: bigint; readonly size: bigint };
}

export interface DirtyPagesRequest {
  /** `DirtyFlags`, exactly one. */
  readonly flags: number;
  /** With GET_BITMAP; `bitmapSize` in bytes. */
  readonly range?: { readonly iova: bigint; readonly size: bigint; readonly pgsize: bigint; readonly bitmapSize: bigint };
}

export interface IrqInfoReply {
  readonly index: number;
  /** `IrqInfoFlags` */
  readonly flags: number;
  readonly count: number;
}

export interface SetIrqsRequest {
  readonly index: number;
  readonly start: number;
  readonly count: number;
  readonly action: 'mask' | 'unmask' | 'trigger';
  readonly data: 'none' | 'bool' | 'eventfd';
  /** With 'bool': a byte for each. */
  readonly values?: Uint8Array;
}

export interface FeatureMessage {
  readonly argsz: number;
  readonly feature: number;
  readonly get: boolean;
  readonly set: boolean;
  readonly probe: boolean;
  /** In for set and, where a feature says so, for get; out for get. */
  readonly data: Uint8Array;
}

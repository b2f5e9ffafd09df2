/**
 * A message of the protocol as a row of the table (table.ts): its number, its command's size and
 * descriptors, how a server answers it, and how it reads. Each file of this folder holds the rows
 * of a subject, with layout, encoders and decoders.
 *
 * Client and server never import each other. The part of a row that needs a served device is a
 * function on `AnswerContext`, which server/attachment.ts provides.
 */
import type { Doorbell, PrecopyInfo, RegionInfo } from '../../abi/device.ts';
import type { OwnedFd } from '../../sys/owned-fd.ts';
import type { FrameWriter } from '../frame-writer.ts';
import type { FrameReader } from '../frames.ts';
import type { DirtyPagesRequest } from './dirty-pages.ts';
import type { DmaMapRequest } from './dma-map.ts';
import type { DmaUnmapRequest } from './dma-unmap.ts';
import type { FeatureMessage } from './feature.ts';
import type { IrqInfoReply } from './irq-info.ts';
import { NOTHING } from './payload.ts';
import type { SetIrqsRequest } from './set-irqs.ts';
import type { Ref, Shape } from './shape.ts';

/** A reply: its payload, and the descriptors that go with it. */
export interface Answer {
  readonly payload: Uint8Array;
  readonly fds?: readonly OwnedFd[];
}

/** A reply that is a header alone. */
export const EMPTY_ANSWER: Answer = { payload: NOTHING };

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
    /** A region as the client may see it, and the file behind it, where it has one that the client may map. */
    region(index: number): { readonly info: RegionInfo; readonly file: RegionFile | null };
    /** Doorbells of a region, and eventfds for them, made by `open`, the caller's. */
    doorbells(index: number): { readonly bells: readonly Doorbell[]; open(): readonly OwnedFd[] };
  };
  readonly stream: {
    /** At most `size` bytes of the state of a device that is saved; none when there are none now. */
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

/** How long the payload of a message to the server may be (message-sizes.ts). */
export interface PayloadSize {
  /** Bytes of its structures. */
  readonly fixed: number;
  /** Bytes after them at most; 'negotiated': as many as the server agreed to. Default: 0. */
  readonly data?: number | 'negotiated';
  /** The payload begins with argsz, and may be as long as argsz says. Default: false. */
  readonly argsz?: boolean;
  /** After the structures follow as many pieces of `unit` bytes as this field says. */
  readonly counted?: { readonly ref: Ref; readonly unit: number };
}

export interface Message<Name extends string = string, Num extends number = number, Request = unknown> {
  readonly name: Name;
  readonly number: Num;
  /** Whose command it is. */
  readonly from: 'client' | 'server';
  /** Descriptors that the command may bring at most. Default: 0. */
  readonly fds?: number;
  readonly size: PayloadSize;
  /**
   * The command, checked as far as that needs no device.
   *
   * @param maxBytes the most that the reply's payload may take
   * @throws VfioError the errno to answer
   */
  decode?(payload: Uint8Array, maxBytes: number): Request;
  /**
   * Does a client's command.
   *
   * @param fds those that came along; the caller closes those that are still open afterwards
   * @throws VfioError the errno to answer
   */
  answer?(server: AnswerContext, request: Request, fds: readonly OwnedFd[]): Answer;
  /**
   * In place of `decode` and `answer`, for register accesses: does the current message of `reader`,
   * and builds the reply at `writer.begin()`. Allocates nothing.
   *
   * @returns the reply's size   @throws VfioError the errno to answer
   */
  inPlace?(regions: InPlace, reader: FrameReader, writer: FrameWriter): number;
  /** How it reads: in `vfio trace`, and in Wireshark. */
  readonly command: Shape;
  readonly reply: Shape;
  /** A payload with asterisks in place of its secrets; the same object when it has none. Default: it has none. */
  masked?(payload: Uint8Array): Uint8Array;
}

/** A row, with its types. */
export function message<const Name extends string, const Num extends number, Request = unknown>(
  row: Message<Name, Num, Request>,
): Message<Name, Num, Request> {
  return row;
}

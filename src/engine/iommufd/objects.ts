/**
 * The objects of one iommufd, by number. All kinds share the numbers; a new object gets the lowest
 * that is free.
 *
 * @see linux/drivers/iommu/iommufd/main.c, iommufd_get_object(), iommufd_object_remove()
 */
import { VfioError } from '../../base/errno.ts';
import { LowestFree } from '../../base/numbers.ts';
import type { FaultQueue } from './fault-queue.ts';
import type { Hwpt } from './hwpt.ts';
import type { Ioas } from './ioas.ts';

/** A device that was bound: the other side of `Iommufd.bind`. */
export interface DeviceObject {
  readonly kind: 'device';
  readonly bdf: string;
}

/** The objects that an iommufd can hold. */
export type IommufdObject = Ioas | Hwpt | DeviceObject | FaultQueue;

/** The object of a kind. */
export type ObjectOf<K extends IommufdObject['kind']> = Extract<IommufdObject, { readonly kind: K }>;

interface Entry {
  readonly object: IommufdObject;
  /** Other objects that need it. */
  users: number;
}

export class ObjectTable {
  readonly #entries = new Map<number, Entry>();
  readonly #numbers = new LowestFree();
  readonly #ids = new Map<IommufdObject, number>();

  constructor() {
    // 0 is no object's.
    this.#numbers.take();
  }

  get size(): number {
    return this.#entries.size;
  }

  /** @returns the object's number */
  add(object: IommufdObject): number {
    const id = this.#numbers.take();
    this.#entries.set(id, { object, users: 0 });
    this.#ids.set(object, id);
    return id;
  }

  /** The number of an object that is there. */
  idOf(object: IommufdObject): number {
    return this.#ids.get(object)!;
  }

  /** Whether it has not been removed. */
  has(object: IommufdObject): boolean {
    return this.#ids.has(object);
  }

  /** The object `id`; undefined when there is none. */
  find(id: number): IommufdObject | undefined {
    return this.#entries.get(id)?.object;
  }

  /** @throws VfioError ENOENT when there is none, or it is of another kind */
  get<K extends IommufdObject['kind']>(id: number, kind: K): ObjectOf<K> {
    const object = this.find(id);
    if (object?.kind === kind) return object as ObjectOf<K>;
    const is = object === undefined ? 'there is no such object' : `it is a ${object.kind}`;
    throw new VfioError('ENOENT', `object ${id} is no ${kind}: ${is}`);
  }

  /** Another object needs it from now on. */
  use(object: IommufdObject): void {
    this.#entry(object).users++;
  }

  /** Another object needs it no more. */
  release(object: IommufdObject): void {
    this.#entry(object).users--;
  }

  /** Whether another object needs it. */
  isUsed(object: IommufdObject): boolean {
    return this.#entry(object).users > 0;
  }

  /** @throws VfioError ENOENT; EBUSY while another object needs it, or it is a bound device */
  checkRemovable(id: number): IommufdObject {
    const entry = this.#entries.get(id);
    if (entry === undefined) throw new VfioError('ENOENT', `there is no object ${id}`);
    const { object, users } = entry;
    if (object.kind === 'device') {
      throw new VfioError('EBUSY', `object ${id} is the device ${object.bdf}, which is bound until its file is closed`);
    }
    if (users > 0)
      throw new VfioError('EBUSY', `object ${id} (${object.kind}) is used by ${users} other ${users === 1 ? 'object' : 'objects'}`);
    return object;
  }

  /** Its number is free at once. */
  remove(object: IommufdObject): void {
    const id = this.#ids.get(object);
    if (id === undefined) return;
    this.#ids.delete(object);
    this.#entries.delete(id);
    this.#numbers.release(id);
  }

  /** The objects of a kind, by number. */
  *ofKind<K extends IommufdObject['kind']>(kind: K): Generator<ObjectOf<K>> {
    for (const { object } of this.#entries.values()) if (object.kind === kind) yield object as ObjectOf<K>;
  }

  #entry(object: IommufdObject): Entry {
    return this.#entries.get(this.#ids.get(object)!)!;
  }
}

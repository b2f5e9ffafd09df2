/**
 * Classes whose objects pass between copies of this package. The command has one copy, and a
 * `card.ts` may import the one that its project installed. The engine of one copy then recognizes
 * errors that a model of the other copy throws, and the server of one copy shares memory and
 * eventfds of the other copy by descriptor.
 */

/**
 * Make `instanceof` accept objects of the same class of every copy. Subclasses keep the ordinary
 * `instanceof`, unless they are passed here themselves.
 *
 * @param shared the class; another copy calls its public members, and never a `#private` one
 * @param name   its name: the same in every version of the package that has the same members
 */
export function acrossCopies(shared: { readonly prototype: object }, name: string): void {
  const brand = Symbol.for(`vfio-ts.${name}`);
  Object.defineProperty(shared.prototype, brand, { value: true });
  Object.defineProperty(shared, Symbol.hasInstance, {
    value(this: unknown, value: unknown): boolean {
      // A subclass inherits this function.
      if (this === shared) return typeof value === 'object' && value !== null && brand in value;
      return Function.prototype[Symbol.hasInstance].call(this as () => void, value);
    },
  });
}

/**
 * The text that `console.log` prints of an object (util.inspect.custom of Node, by its registered
 * name, so that every room can have it): one line, instead of all that the object holds.
 */
export const INSPECT: unique symbol = Symbol.for('nodejs.util.inspect.custom') as never;

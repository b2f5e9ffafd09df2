/**
 * The method whose text `console.log` prints of an object: one line, instead of all that the object
 * holds. It is Node's util.inspect.custom, by its registered name, so that every room can use it
 * without an import of Node's modules.
 */
export const INSPECT: unique symbol = Symbol.for('nodejs.util.inspect.custom') as never;

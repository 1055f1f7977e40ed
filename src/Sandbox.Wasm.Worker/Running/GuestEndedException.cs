namespace Sandbox.Wasm.Worker.Running;

/// <summary>Takes a guest off its stack: it was killed, or it said that it is done.</summary>
internal sealed class GuestEndedException(string message) : Exception(message);

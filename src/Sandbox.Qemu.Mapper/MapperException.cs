namespace Sandbox.Qemu.Mapper;

/// <summary>An order could not be carried out.</summary>
internal sealed class MapperException(string message) : Exception(message);

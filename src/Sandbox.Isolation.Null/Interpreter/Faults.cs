using Sandbox.Guest.Protocol;
using Sandbox.Isolation.Guest;

namespace Sandbox.Isolation.Null.Interpreter;

/// <summary>What the guest answers where it refuses.</summary>
internal static class Faults
{
    public static GuestException Of(ErrorCode code, string message) => new(new Error { Code = code, Message = message });

    public static GuestException NoFile(string path) => Of(ErrorCode.NotFound, $"{path}: no such file or directory");
}

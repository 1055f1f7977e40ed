namespace Sandbox.Output;

/// <summary>Ids that become names of directories.</summary>
internal static class OutputIds
{
    private const int MaxLength = 64;

    /// <summary>Returns the id, or throws: <c>[A-Za-z0-9_-]{1,64}</c> and nothing else may become part of a path.</summary>
    public static string Require(string id, string parameter)
    {
        ArgumentNullException.ThrowIfNull(id, parameter);
        return IsValid(id) ? id : throw new ArgumentException($"An id is 1 to {MaxLength} characters out of A-Z, a-z, 0-9, '_' and '-'.", parameter);
    }

    public static bool IsValid(string id) => id.Length is > 0 and <= MaxLength && id.All(c => char.IsAsciiLetterOrDigit(c) || c is '_' or '-');
}
